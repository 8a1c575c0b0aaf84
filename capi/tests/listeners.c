/* Threads and listeners of the program's own, by kiln.h; prints "ok". */
#include <pthread.h>

#include "check.h"

enum { SIZE = 160, THREADS = 3 };
static float lhs[SIZE * SIZE], rhs[SIZE * SIZE];

/* Starts a thread for each part but one, which the caller does. Its parts are done in part only if it is lazy. */
struct pool {
    pthread_mutex_t lock;
    int calls, parts, released;
    bool is_lazy;
};

struct task {
    kiln_work part;
    const void *work;
    size_t number;
};

static void *do_part(void *context) {
    const struct task *task = context;
    task->part(task->work, task->number);
    return NULL;
}

static void run_parts(void *context, size_t count, kiln_work part, const void *work) {
    struct pool *pool = context;
    struct task tasks[THREADS];
    pthread_t threads[THREADS];
    REQUIRE(count >= 1 && count <= THREADS);
    REQUIRE(pthread_mutex_lock(&pool->lock) == 0);
    pool->calls++;
    pool->parts += (int)count;
    REQUIRE(pthread_mutex_unlock(&pool->lock) == 0);
    if (pool->is_lazy) return;
    for (size_t i = 0; i < count; i++) {
        tasks[i].part = part;
        tasks[i].work = work;
        tasks[i].number = i;
        if (i > 0) REQUIRE(pthread_create(&threads[i], NULL, do_part, &tasks[i]) == 0);
    }
    do_part(&tasks[0]);
    for (size_t i = 1; i < count; i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    }
}

static void release_pool(void *context) {
    ((struct pool *)context)->released++;
}

static kiln_args product(float *dst) {
    kiln_args args;
    memset(&args, 0, sizeof args);
    args.struct_size = sizeof args;
    args.lhs = f32(lhs, SIZE * SIZE);
    args.rhs = f32(rhs, SIZE * SIZE);
    args.dst.data = dst;
    args.dst.dtype = KILN_F32;
    args.dst.elements = SIZE * SIZE;
    return args;
}

static void test_executor(void) {
    struct pool pool = {PTHREAD_MUTEX_INITIALIZER, 0, 0, 0, false};
    kiln_executor executor = {sizeof executor, THREADS, &pool, run_parts, release_pool}, bad = executor;
    kiln_options *options;
    kiln_runtime *runtime;
    kiln_kernel *kernel;
    float *dst = calloc(SIZE * SIZE, sizeof *dst);
    REQUIRE(dst != NULL);
    OK(kiln_options_create(&options));
    FAILS(KILN_INVALID_ARGUMENT, "`options`: null", kiln_options_set_executor(NULL, &executor));
    FAILS(KILN_INVALID_ARGUMENT, "`executor`: null", kiln_options_set_executor(options, NULL));
    bad.struct_size = 0;
    FAILS(KILN_INVALID_ARGUMENT, "struct_size is 0", kiln_options_set_executor(options, &bad));
    bad = executor, bad.run = NULL;
    FAILS(KILN_INVALID_ARGUMENT, "`run` is null", kiln_options_set_executor(options, &bad));
    bad = executor, bad.threads = 0;
    FAILS(KILN_INVALID_ARGUMENT, "0 threads", kiln_options_set_executor(options, &bad));
    bad.threads = 5000;
    FAILS(KILN_INVALID_ARGUMENT, "5000 threads", kiln_options_set_executor(options, &bad));
    REQUIRE(pool.released == 0);
    OK(kiln_options_set_executor(options, &executor));
    OK(kiln_runtime_create(options, &runtime));
    kiln_options_free(options);
    REQUIRE(pool.released == 0 && kiln_runtime_threads(runtime) == THREADS);
    OK(kiln_kernel_create(runtime, "matmul f32 160x160:160x160", 0, &kernel));

    kiln_args args = product(dst);
    OK(kiln_kernel_run(kernel, &args));
    REQUIRE(pool.calls == 1 && pool.parts > 1);
    for (int i = 0; i < SIZE * SIZE; i += 41) {
        float sum = 0;
        for (int k = 0; k < SIZE; k++) {
            sum += lhs[i / SIZE * SIZE + k] * rhs[k * SIZE + i % SIZE];
        }
        REQUIRE(dst[i] == sum);
    }
    OK(kiln_kernel_run_serial(kernel, &args));
    REQUIRE(pool.calls == 1);
    pool.is_lazy = true;
    FAILS(KILN_THREADS, "the executor finished 0", kiln_kernel_run(kernel, &args));
    pool.is_lazy = false;
    kiln_runtime_free(runtime);
    OK(kiln_kernel_run(kernel, &args));
    REQUIRE(pool.calls == 3 && pool.released == 0);
    kiln_kernel_free(kernel);
    REQUIRE(pool.released == 1);

    /* Replaced before it was used, and never released where nothing is to be done. */
    OK(kiln_options_create(&options));
    OK(kiln_options_set_executor(options, &executor));
    OK(kiln_options_set_threads(options, 2));
    REQUIRE(pool.released == 2);
    executor.release = NULL;
    OK(kiln_options_set_executor(options, &executor));
    kiln_options_free(options);
    REQUIRE(pool.released == 2);
    free(dst);
}

struct heard {
    pthread_mutex_t lock;
    int texts, released;
    char last[4096];
};

static void hear(void *context, const char *text) {
    struct heard *heard = context;
    REQUIRE(pthread_mutex_lock(&heard->lock) == 0);
    heard->texts++;
    snprintf(heard->last, sizeof heard->last, "%s", text);
    REQUIRE(pthread_mutex_unlock(&heard->lock) == 0);
}

static void release_heard(void *context) {
    ((struct heard *)context)->released++;
}

static void test_listeners(void) {
    struct heard lines = {PTHREAD_MUTEX_INITIALIZER, 0, 0, ""}, notices = {PTHREAD_MUTEX_INITIALIZER, 0, 0, ""};
    kiln_listener listener = {sizeof listener, &lines, hear, release_heard}, bad = listener;
    kiln_options *options;
    kiln_runtime *runtime;
    kiln_kernel *kernel;
    float *dst = calloc(SIZE * SIZE, sizeof *dst);
    REQUIRE(dst != NULL);
    OK(kiln_options_create(&options));
    bad.tell = NULL;
    FAILS(KILN_INVALID_ARGUMENT, "`listener`: null", kiln_options_set_verbose_listener(options, NULL));
    FAILS(KILN_INVALID_ARGUMENT, "`tell` is null", kiln_options_set_verbose_listener(options, &bad));
    FAILS(KILN_INVALID_ARGUMENT, "`options`: null", kiln_options_set_notice_listener(NULL, &listener));
    FAILS(KILN_INVALID_ARGUMENT, "`tell` is null", kiln_options_set_notice_listener(options, &bad));
    OK(kiln_options_set_verbose(options, "profile"));
    OK(kiln_options_set_verbose_listener(options, &listener));
    listener.context = &notices;
    OK(kiln_options_set_notice_listener(options, &listener));
    OK(kiln_options_add_pack(options, "/no/such/pack"));
    OK(kiln_runtime_create(options, &runtime));
    REQUIRE(notices.texts == 1 && strstr(notices.last, "/no/such/pack: the pack is not used") == notices.last);
    REQUIRE(strcmp(notices.last, kiln_runtime_notice(runtime, 0)) == 0);
    /* The notice is a line too. */
    REQUIRE(lines.texts == 1 && strstr(lines.last, "/no/such/pack") != NULL);
    OK(kiln_kernel_create(runtime, "matmul f32 160x160:160x160", 0, &kernel));
    REQUIRE(lines.texts == 2 && strstr(lines.last, ",create:cache_miss,") != NULL && strchr(lines.last, '\n') == NULL);
    kiln_args args = product(dst);
    OK(kiln_kernel_run(kernel, &args));
    REQUIRE(lines.texts == 3 && strstr(lines.last, ",exec,") != NULL);
    kiln_options_free(options);
    kiln_kernel_free(kernel);
    REQUIRE(lines.released == 0 && notices.released == 0);
    kiln_runtime_free(runtime);
    REQUIRE(lines.released == 1 && notices.released == 1 && notices.texts == 1);
    free(dst);
}

int main(void) {
    fill(lhs, SIZE * SIZE, 5);
    fill(rhs, SIZE * SIZE, 7);
    test_executor();
    test_listeners();
    puts("ok");
    return 0;
}
