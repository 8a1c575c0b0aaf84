/* Calls of kernels by kiln.h, with all failures, from several threads, and after what made them was freed; prints "ok". */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/* Gives the same result by another kernel, which reads its weights in the same order, and one that reads fewer. */
#define OTHER LAYER "+abs"
#define NARROWER "ip f32 mb8ic64oc80 +bias+relu"

static float src[M * K], weights[N * K], bias[N], added[M * N];

static float layer(int row, int column) {
    float sum = bias[column];
    for (int k = 0; k < K; k++) {
        sum += src[row * K + k] * weights[column * K + k];
    }
    return sum > 0 ? sum : 0;
}

static void check_layer(const float *dst) {
    for (int i = 0; i < M * N; i++) {
        REQUIRE(dst[i] == layer(i / N, i % N));
    }
}

/* Arguments of the layer; `post` is for its bias. */
static kiln_args layer_args(const kiln_packed_weights *packed, kiln_post_tensor *post, float *dst) {
    kiln_args args;
    memset(&args, 0, sizeof args);
    args.struct_size = sizeof args;
    post->tensor = f32(bias, N);
    post->is_bias = 1;
    args.lhs = f32(src, M * K);
    if (packed != NULL) {
        args.packed = packed;
    } else {
        args.rhs = f32(weights, N * K);
    }
    args.post = post;
    args.post_count = 1;
    args.dst.data = dst;
    args.dst.dtype = KILN_F32;
    args.dst.elements = M * N;
    return args;
}

/* Operands of products of 2x3 and 3x2 numbers of two bytes. */
static kiln_args small_args(kiln_dtype dtype, const uint16_t lhs[6], const uint16_t rhs[6], uint16_t dst[4]) {
    kiln_args args;
    memset(&args, 0, sizeof args);
    args.struct_size = sizeof args;
    args.lhs.data = lhs;
    args.rhs.data = rhs;
    args.dst.data = dst;
    args.lhs.dtype = args.rhs.dtype = args.dst.dtype = dtype;
    args.lhs.elements = args.rhs.elements = 6;
    args.dst.elements = 4;
    return args;
}

static void test_bf16(const kiln_runtime *runtime) {
    /* 1 and 2 in bf16, in rows of odd length. */
    static const uint16_t lhs[] = {0x3f80, 0x4000, 0x3f80, 0x4000, 0x4000, 0x4000};
    static const uint16_t rhs[] = {0x3f80, 0x3f80, 0x4000, 0x4000, 0x3f80, 0x3f80};
    uint16_t dst[4];
    kiln_args args = small_args(KILN_BF16, lhs, rhs, dst);
    kiln_kernel *kernel;
    OK(kiln_kernel_create(runtime, "matmul bf16 2x3:3x2", 0, &kernel));
    OK(kiln_kernel_run(kernel, &args));
    /* 6, 6, 8, 8 */
    REQUIRE(dst[0] == 0x40c0 && dst[1] == 0x40c0 && dst[2] == 0x4100 && dst[3] == 0x4100);
    args.dst.dtype = KILN_F32;
    args.dst.data = added;
    FAILS(KILN_INVALID_ARGUMENT, "dst", kiln_kernel_run(kernel, &args));
    args.dst.dtype = KILN_I32;
    FAILS(KILN_INVALID_ARGUMENT, "4 of s32", kiln_kernel_run(kernel, &args));
    args.dst.dtype = KILN_I64;
    FAILS(KILN_INVALID_ARGUMENT, "dtype 11", kiln_kernel_run(kernel, &args));
    kiln_kernel_free(kernel);
}

static void test_f16(const kiln_runtime *runtime) {
    /* 1 and 2 in f16, in rows of odd length. */
    static const uint16_t lhs[] = {0x3c00, 0x4000, 0x3c00, 0x4000, 0x4000, 0x4000};
    static const uint16_t rhs[] = {0x3c00, 0x3c00, 0x4000, 0x4000, 0x3c00, 0x3c00};
    uint16_t dst[4];
    float wide[4];
    kiln_args args = small_args(KILN_F16, lhs, rhs, dst);
    kiln_kernel *kernel;
    OK(kiln_kernel_create(runtime, "matmul f16 2x3:3x2", 0, &kernel));
    OK(kiln_kernel_run(kernel, &args));
    /* 6, 6, 8, 8 */
    REQUIRE(dst[0] == 0x4600 && dst[1] == 0x4600 && dst[2] == 0x4800 && dst[3] == 0x4800);
    args.lhs.dtype = KILN_BF16;
    FAILS(KILN_INVALID_ARGUMENT, "lhs", kiln_kernel_run(kernel, &args));
    kiln_kernel_free(kernel);
    args.lhs.dtype = KILN_F16;
    args.dst.dtype = KILN_F32;
    args.dst.data = wide;
    OK(kiln_kernel_create(runtime, "matmul f16:f16:f32 2x3:3x2", 0, &kernel));
    OK(kiln_kernel_run(kernel, &args));
    REQUIRE(wide[0] == 6 && wide[1] == 6 && wide[2] == 8 && wide[3] == 8);
    kiln_kernel_free(kernel);
}

static void test_calls(const kiln_runtime *runtime) {
    kiln_kernel *kernel;
    float dst[M * N + 1];
    kiln_post_tensor post[2];
    OK(kiln_kernel_create(runtime, LAYER, 0, &kernel));
    kiln_args args = layer_args(NULL, post, dst), bad = args;
    OK(kiln_kernel_run(kernel, &args));
    check_layer(dst);
    memset(dst, 0, sizeof dst);
    OK(kiln_kernel_run_serial(kernel, &args));
    check_layer(dst);

    FAILS(KILN_INVALID_ARGUMENT, "`kernel`: null", kiln_kernel_run(NULL, &args));
    FAILS(KILN_INVALID_ARGUMENT, "`args`: null", kiln_kernel_run(kernel, NULL));
    FAILS(KILN_INVALID_ARGUMENT, "`args`: null", kiln_kernel_run_serial(kernel, NULL));
    bad.lhs.data = NULL;
    FAILS(KILN_INVALID_ARGUMENT, "`lhs`: null", kiln_kernel_run(kernel, &bad));
    bad = args, bad.rhs.data = NULL;
    FAILS(KILN_INVALID_ARGUMENT, "`rhs`: null", kiln_kernel_run(kernel, &bad));
    bad = args, bad.dst.data = NULL;
    FAILS(KILN_INVALID_ARGUMENT, "`dst`: null", kiln_kernel_run(kernel, &bad));
    bad = args, bad.post = NULL;
    FAILS(KILN_INVALID_ARGUMENT, "`post`: null", kiln_kernel_run(kernel, &bad));
    bad = args, bad.post_count = 0;
    FAILS(KILN_INVALID_ARGUMENT, "`bias`", kiln_kernel_run(kernel, &bad));
    bad = args, bad.post_count = 2, post[1] = post[0];
    FAILS(KILN_INVALID_ARGUMENT, "one more", kiln_kernel_run(kernel, &bad));
    bad = args, bad.post_count = (size_t)-1;
    FAILS(KILN_INVALID_ARGUMENT, "too many", kiln_kernel_run(kernel, &bad));
    bad = args, bad.lhs.elements--;
    FAILS(KILN_INVALID_ARGUMENT, "512 elements", kiln_kernel_run(kernel, &bad));
    bad = args, bad.lhs.elements = (size_t)-1 / 4;
    FAILS(KILN_INVALID_ARGUMENT, "too many", kiln_kernel_run(kernel, &bad));
    bad = args, bad.lhs.data = (const char *)src + 2, bad.lhs.elements--;
    FAILS(KILN_INVALID_ARGUMENT, "not aligned", kiln_kernel_run(kernel, &bad));
    bad = args, bad.dst.data = &src[M * K - 1];
    FAILS(KILN_INVALID_ARGUMENT, "`lhs`: overlaps dst", kiln_kernel_run(kernel, &bad));
    post[0].tensor.data = dst;
    FAILS(KILN_INVALID_ARGUMENT, "`post[0]`: overlaps dst", kiln_kernel_run(kernel, &args));
    post[0].tensor.data = bias;
    post[0].tensor.dtype = 0;
    FAILS(KILN_INVALID_ARGUMENT, "`post[0]`: dtype 0", kiln_kernel_run(kernel, &args));
    kiln_kernel_free(kernel);

    /* A bias where the problem has another tensor. */
    OK(kiln_kernel_create(runtime, "ip f32 mb8ic64oc96 +add:ab", 0, &kernel));
    args = layer_args(NULL, post, dst);
    post[0].tensor = f32(added, M * N);
    FAILS(KILN_INVALID_ARGUMENT, "`add`", kiln_kernel_run(kernel, &args));
    post[0].is_bias = 0;
    OK(kiln_kernel_run(kernel, &args));
    kiln_kernel_free(kernel);
}

static void test_packed_weights(const kiln_runtime *runtime) {
    kiln_kernel *kernel, *other, *narrower, *in_place;
    kiln_packed_weights *packed = NULL, *clone, *again, *third;
    kiln_kernel_info info = {.struct_size = sizeof info};
    kiln_stats stats = {.struct_size = sizeof stats};
    float dst[M * N];
    kiln_post_tensor post;
    kiln_tensor rhs = f32(weights, N * K), shorter = f32(weights, N * K - 1);
    OK(kiln_kernel_create(runtime, LAYER, KILN_CONSTANT_WEIGHTS, &kernel));
    OK(kiln_kernel_create(runtime, OTHER, KILN_CONSTANT_WEIGHTS, &other));
    OK(kiln_kernel_create(runtime, NARROWER, KILN_CONSTANT_WEIGHTS, &narrower));
    OK(kiln_kernel_create(runtime, LAYER, 0, &in_place));
    OK(kiln_kernel_describe(kernel, &info));
    REQUIRE(info.packed_bytes >= sizeof weights);

    FAILS(KILN_INVALID_ARGUMENT, "`kernel`: null", kiln_kernel_pack_weights(NULL, &rhs, &packed));
    FAILS(KILN_INVALID_ARGUMENT, "`weights`: null", kiln_kernel_pack_weights(kernel, NULL, &packed));
    FAILS(KILN_INVALID_ARGUMENT, "`packed`: null", kiln_kernel_pack_weights(kernel, &rhs, NULL));
    FAILS(KILN_INVALID_ARGUMENT, "6144 elements", kiln_kernel_pack_weights(kernel, &shorter, &packed));
    FAILS(KILN_INVALID_ARGUMENT, "in place", kiln_kernel_pack_weights(in_place, &rhs, &packed));
    REQUIRE(packed == NULL);
    OK(kiln_kernel_pack_weights(kernel, &rhs, &packed));
    REQUIRE(kiln_packed_weights_bytes(packed) == info.packed_bytes);

    /* A clone is the same memory, which goes with the last handle. One packing serves several kernels. */
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_packed_weights_clone(NULL, &clone));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_packed_weights_clone(packed, NULL));
    OK(kiln_packed_weights_clone(packed, &clone));
    OK(kiln_runtime_stats(runtime, &stats));
    REQUIRE(stats.packed_bytes == info.packed_bytes);
    kiln_packed_weights_free(packed);
    kiln_args args = layer_args(clone, &post, dst);
    OK(kiln_kernel_run(kernel, &args));
    check_layer(dst);
    FAILS(KILN_INVALID_ARGUMENT, "in place", kiln_kernel_run(in_place, &args));
    args.rhs = rhs;
    FAILS(KILN_INVALID_ARGUMENT, "both", kiln_kernel_run(kernel, &args));
    args.packed = NULL;
    FAILS(KILN_INVALID_ARGUMENT, "not packed", kiln_kernel_run(kernel, &args));
    args = layer_args(clone, &post, dst);
    memset(dst, 0, sizeof dst);
    OK(kiln_kernel_run(other, &args));
    check_layer(dst);
    FAILS(KILN_INVALID_ARGUMENT, "packed with columns", kiln_kernel_run(narrower, &args));
    kiln_packed_weights_free(clone);
    kiln_packed_weights_free(NULL);

    /* By number: packed once while a handle is left. */
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_runtime_packed_weights(NULL, kernel, 1, &rhs, &packed));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_runtime_packed_weights(runtime, NULL, 1, &rhs, &packed));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_runtime_packed_weights(runtime, kernel, 1, NULL, &packed));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_runtime_packed_weights(runtime, kernel, 1, &rhs, NULL));
    OK(kiln_runtime_packed_weights(runtime, kernel, 1, &rhs, &packed));
    OK(kiln_runtime_packed_weights(runtime, other, 1, &rhs, &again));
    OK(kiln_runtime_packed_weights(runtime, kernel, 2, &rhs, &third));
    OK(kiln_runtime_stats(runtime, &stats));
    REQUIRE(stats.packed_bytes == 2 * info.packed_bytes);
    kiln_packed_weights_free(packed);
    args = layer_args(again, &post, dst);
    OK(kiln_kernel_run(kernel, &args));
    check_layer(dst);
    kiln_packed_weights_free(again);
    kiln_packed_weights_free(third);
    kiln_kernel_free(kernel);
    kiln_kernel_free(other);
    kiln_kernel_free(narrower);
    kiln_kernel_free(in_place);
}

/* Two threads call one kernel, and each has its own last error. */
struct caller {
    const kiln_kernel *kernel;
    const kiln_packed_weights *packed;
    const char *problem;
    const kiln_runtime *runtime;
};

static void *call_often(void *context) {
    const struct caller *caller = context;
    float *dst = malloc(sizeof(float) * M * N);
    kiln_post_tensor post;
    kiln_kernel *none;
    REQUIRE(dst != NULL && strcmp(kiln_last_error_message(), "") == 0);
    for (int i = 0; i < 20; i++) {
        memset(dst, 0, sizeof(float) * M * N);
        kiln_args args = layer_args(caller->packed, &post, dst);
        OK(kiln_kernel_run(caller->kernel, &args));
        check_layer(dst);
        FAILS(KILN_INVALID_PROBLEM, caller->problem, kiln_kernel_create(caller->runtime, caller->problem, 0, &none));
    }
    free(dst);
    return NULL;
}

static void test_threads(const kiln_runtime *runtime) {
    kiln_kernel *kernel;
    kiln_packed_weights *packed;
    kiln_tensor rhs = f32(weights, N * K);
    OK(kiln_kernel_create(runtime, LAYER, KILN_CONSTANT_WEIGHTS, &kernel));
    OK(kiln_kernel_pack_weights(kernel, &rhs, &packed));
    struct caller callers[] = {{kernel, packed, "first", runtime}, {kernel, packed, "second", runtime}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, call_often, &callers[i]) == 0);
    }
    for (int i = 0; i < 2; i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    }
    kiln_packed_weights_free(packed);
    kiln_kernel_free(kernel);
}

/* The layer for any number of rows, on general code and then on exact code. */
static void test_family(const kiln_runtime *runtime) {
    kiln_family *family;
    kiln_packed_weights *packed = NULL;
    kiln_tensor w = f32(weights, N * K);
    kiln_post_tensor post;
    float dst[M * N];
    FAILS(KILN_INVALID_PROBLEM, "expected a `?`", kiln_family_create(runtime, LAYER, 0, 64, &family));
    FAILS(KILN_INVALID_ARGUMENT, "flags", kiln_family_create(runtime, "ip f32 mb?ic64oc96", 8, 64, &family));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_family_create(runtime, NULL, 0, 64, &family));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_family_create(NULL, "ip f32 mb?ic64oc96", 0, 64, &family));
    OK(kiln_family_create(runtime, "ip f32 mb?ic64oc96 +bias+relu", KILN_CONSTANT_WEIGHTS, 64, &family));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_family_pack_weights(family, NULL, &packed));
    OK(kiln_family_pack_weights(family, &w, &packed));
    for (int call = 0; call < 40; call++) {
        int rows = 1 + call % M;
        kiln_args args = layer_args(packed, &post, dst);
        memset(dst, 0, sizeof dst);
        args.lhs.elements = (size_t)rows * K;
        args.dst.elements = (size_t)rows * N;
        OK(kiln_family_run(family, (uint64_t)rows, &args));
        for (int i = 0; i < M * N; i++) {
            REQUIRE(dst[i] == (i < rows * N ? layer(i / N, i % N) : 0));
        }
        FAILS(KILN_INVALID_ARGUMENT, "`lhs`", kiln_family_run(family, (uint64_t)rows + 1, &args));
    }
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_family_run(family, 1, NULL));
    kiln_packed_weights_free(packed);
    kiln_family_free(family);
    kiln_family_free(NULL);
}

/* A process that was forked off has threads again when it says so. */
static void test_fork(void) {
    kiln_options *options;
    kiln_runtime *runtime;
    kiln_kernel *kernel;
    float dst[M * N];
    kiln_post_tensor post;
    OK(kiln_options_create(&options));
    OK(kiln_options_set_threads(options, 2));
    OK(kiln_runtime_create(options, &runtime));
    kiln_options_free(options);
    OK(kiln_kernel_create(runtime, LAYER, 0, &kernel));
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        OK(kiln_runtime_renew_threads(runtime));
        kiln_args args = layer_args(NULL, &post, dst);
        OK(kiln_kernel_run(kernel, &args));
        check_layer(dst);
        /* The memory of threads that are gone is lost, which valgrind would tell of at an exit. */
        execlp("true", "true", (char *)NULL);
        REQUIRE(false);
    }
    int status;
    REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    kiln_kernel_free(kernel);
    kiln_runtime_free(runtime);
}

/* A problem large enough to be divided among threads, called after its runtime was freed. */
static void test_freeing_order(void) {
    enum { SIZE = 160 };
    kiln_options *options;
    kiln_runtime *runtime, *clone;
    kiln_kernel *kernel, *copy;
    kiln_args args;
    float *tensors = malloc(sizeof(float) * 3 * SIZE * SIZE), *dst = tensors + 2 * SIZE * SIZE;
    REQUIRE(tensors != NULL);
    fill(tensors, 2 * SIZE * SIZE, 5);
    OK(kiln_options_create(&options));
    OK(kiln_options_set_threads(options, 2));
    OK(kiln_runtime_create(options, &runtime));
    kiln_options_free(options);
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_runtime_clone(NULL, &clone));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_runtime_clone(runtime, NULL));
    OK(kiln_runtime_clone(runtime, &clone));
    kiln_runtime_free(runtime);
    OK(kiln_kernel_create(clone, "matmul f32 160x160:160x160", 0, &kernel));
    kiln_runtime_free(clone);
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_kernel_clone(NULL, &copy));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_kernel_clone(kernel, NULL));
    OK(kiln_kernel_clone(kernel, &copy));
    kiln_kernel_free(kernel);

    memset(&args, 0, sizeof args);
    args.struct_size = sizeof args;
    args.lhs = f32(tensors, SIZE * SIZE);
    args.rhs = f32(tensors + SIZE * SIZE, SIZE * SIZE);
    args.dst.data = dst;
    args.dst.dtype = KILN_F32;
    args.dst.elements = SIZE * SIZE;
    OK(kiln_kernel_run(copy, &args));
    kiln_kernel_free(copy);
    for (int i = 0; i < SIZE * SIZE; i += 37) {
        float sum = 0;
        for (int k = 0; k < SIZE; k++) {
            sum += tensors[i / SIZE * SIZE + k] * tensors[SIZE * SIZE + k * SIZE + i % SIZE];
        }
        REQUIRE(dst[i] == sum);
    }
    free(tensors);
}

/* The halves of each row of a matrix, computed apart from the same rows of another with a wider pitch. */
static void test_strides(const kiln_runtime *runtime) {
    enum { ROWS = 5, DEPTH = 7, WIDTH = 12, PITCH = 11, COLUMNS = 2 * WIDTH + 3 };
    float lhs[ROWS * PITCH], rhs[DEPTH * COLUMNS], dst[ROWS * COLUMNS];
    kiln_kernel *kernel;
    kiln_operand_info info = {.struct_size = sizeof info};
    kiln_args args, bad;
    fill(lhs, ROWS * PITCH, 7);
    fill(rhs, DEPTH * COLUMNS, 5);
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        dst[i] = -1e6f;
    }
    FAILS(KILN_INVALID_PROBLEM, "dst", kiln_kernel_create(runtime, "matmul f32 5x7:7x12 strides=::11x1", 0, &kernel));
    FAILS(KILN_INVALID_PROBLEM, "negative", kiln_kernel_create(runtime, "matmul f32 5x7:7x12 strides=-7x1", 0, &kernel));
    OK(kiln_kernel_create(runtime, "matmul f32 5x7:7x12 strides=11x1:27x1:27x1", 0, &kernel));
    OK(kiln_kernel_operand(kernel, 0, &info));
    REQUIRE(info.elements == (ROWS - 1) * PITCH + DEPTH && info.strides[0] == PITCH && info.strides[1] == 1);
    memset(&args, 0, sizeof args);
    args.struct_size = sizeof args;
    args.lhs = f32(lhs, info.elements);
    OK(kiln_kernel_operand(kernel, 2, &info));
    REQUIRE(info.elements == (ROWS - 1) * COLUMNS + WIDTH && info.rank == 2 && info.shape[1] == WIDTH);
    args.dst.dtype = KILN_F32;
    args.dst.elements = info.elements;
    for (int half = 0; half < 2; half++) {
        /* Between the halves lie three columns that nobody writes. */
        args.rhs = f32(rhs + half * (WIDTH + 3), (DEPTH - 1) * COLUMNS + WIDTH);
        args.dst.data = dst + half * (WIDTH + 3);
        OK(kiln_kernel_run(kernel, &args));
    }
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < COLUMNS; j++) {
            float sum = 0;
            for (int k = 0; k < DEPTH; k++) {
                sum += lhs[i * PITCH + k] * rhs[k * COLUMNS + j];
            }
            REQUIRE(dst[i * COLUMNS + j] == (j >= WIDTH && j < WIDTH + 3 ? -1e6f : sum));
        }
    }
    bad = args, bad.lhs.elements--;
    FAILS(KILN_INVALID_ARGUMENT, "at least 51 elements", kiln_kernel_run(kernel, &bad));
    bad = args, bad.dst.elements--;
    FAILS(KILN_INVALID_ARGUMENT, "at least 120 elements", kiln_kernel_run(kernel, &bad));
    args.lhs.elements = ROWS * PITCH;
    OK(kiln_kernel_run(kernel, &args));
    kiln_kernel_free(kernel);
}

/* A problem that says strict is strict, whatever the runtime's default. */
static void test_fpmath(void) {
    kiln_options *options;
    kiln_runtime *runtime;
    kiln_kernel *kernel;
    kiln_kernel_info info = {.struct_size = sizeof info};
    static const char *const PROBLEMS[][2] = {
        {"ip f32 mb8ic64oc96", "ip f32 mb8ic64oc96 fpmath=bf16"},
        {"ip f32 mb8ic64oc96 fpmath=strict", "ip f32 mb8ic64oc96 fpmath=strict"},
        {"ip f32 mb8ic64oc96 fpmath=any", "ip f32 mb8ic64oc96 fpmath=any"},
        {"ip bf16 mb8ic64oc96", "ip bf16 mb8ic64oc96"},
    };
    OK(kiln_options_create(&options));
    OK(kiln_options_set_fpmath(options, "bf16"));
    OK(kiln_runtime_create(options, &runtime));
    kiln_options_free(options);
    for (size_t i = 0; i < sizeof PROBLEMS / sizeof *PROBLEMS; i++) {
        OK(kiln_kernel_create(runtime, PROBLEMS[i][0], 0, &kernel));
        OK(kiln_kernel_describe(kernel, &info));
        REQUIRE(strcmp(info.problem, PROBLEMS[i][1]) == 0);
        kiln_kernel_free(kernel);
    }
    kiln_runtime_free(runtime);
}

int main(void) {
    fill(src, M * K, 7);
    fill(weights, N * K, 5);
    fill(bias, N, 9);
    fill(added, M * N, 3);

    kiln_runtime *runtime;
    OK(kiln_runtime_create(NULL, &runtime));
    test_bf16(runtime);
    test_f16(runtime);
    test_calls(runtime);
    test_packed_weights(runtime);
    test_threads(runtime);
    test_family(runtime);
    test_strides(runtime);
    kiln_runtime_free(runtime);
    test_fork();
    test_freeing_order();
    test_fpmath();
    puts("ok");
    return 0;
}
