/* Handles of kiln.h and what can be asked of them, with all failures. Takes a directory for files; prints "ok". */
#include "check.h"

static void test_texts(void) {
    REQUIRE(strlen(kiln_version()) > 0);
    REQUIRE(strcmp(kiln_last_error_message(), "") == 0);
    REQUIRE(strcmp(kiln_status_name(KILN_LIMIT_EXCEEDED), "KILN_LIMIT_EXCEEDED") == 0);
    REQUIRE(strcmp(kiln_status_name(-7), "unknown status") == 0);
}

static void test_options(const char *folder) {
    kiln_options *options = NULL;
    FAILS(KILN_INVALID_ARGUMENT, "`options`: null", kiln_options_create(NULL));
    OK(kiln_options_create(&options));
    FAILS(KILN_INVALID_ARGUMENT, "`options`: null", kiln_options_set_threads(NULL, 1));
    FAILS(KILN_INVALID_ARGUMENT, "from 1 to 1024", kiln_options_set_threads(options, 0));
    FAILS(KILN_INVALID_ARGUMENT, "from 1 to 1024", kiln_options_set_threads(options, 100000000));
    OK(kiln_options_set_threads(options, 3));
    FAILS(KILN_INVALID_ARGUMENT, "`options`: null", kiln_options_set_streams(NULL, 1));
    FAILS(KILN_INVALID_ARGUMENT, "from 1 to 1024", kiln_options_set_streams(options, 0));
    OK(kiln_options_set_streams(options, 2));
    FAILS(KILN_INVALID_ARGUMENT, "`options`: null", kiln_options_set_spin(NULL, 1));
    OK(kiln_options_set_spin(options, 50));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_options_set_cache_capacity(NULL, 1));
    OK(kiln_options_set_cache_capacity(options, 16));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_options_set_cache_bytes(NULL, 1));
    OK(kiln_options_set_cache_bytes(options, (size_t)1 << 24));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_options_set_code_limit(NULL, 1));
    OK(kiln_options_set_code_limit(options, (size_t)1 << 24));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_options_set_packed_limit(NULL, 1));
    OK(kiln_options_set_packed_limit(options, (size_t)1 << 24));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_options_set_fpmath(options, NULL));
    FAILS(KILN_INVALID_ARGUMENT, "fast", kiln_options_set_fpmath(options, "fast"));
    OK(kiln_options_set_fpmath(options, "strict"));
    FAILS(KILN_INVALID_ARGUMENT, "z80", kiln_options_set_target(options, "z80"));
    FAILS(KILN_INVALID_ARGUMENT, "UTF-8", kiln_options_set_target(options, "\xff"));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_options_add_pack(options, NULL));
    FAILS(KILN_INVALID_ARGUMENT, "empty", kiln_options_set_cache_dir(options, ""));
    OK(kiln_options_set_cache_dir(options, folder));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_options_set_cache_dir_bytes(NULL, 1));
    OK(kiln_options_set_cache_dir_bytes(options, 1 << 24));
    FAILS(KILN_INVALID_ARGUMENT, "from 0 to 1", kiln_options_set_strict(options, 1.5));
    OK(kiln_options_set_strict(options, 0.0));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_options_set_strict_settings(NULL, 1));
    OK(kiln_options_set_strict_settings(options, 1));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_options_set_verbose(options, NULL));
    OK(kiln_options_set_verbose(options, "loud"));
    FAILS(KILN_INVALID_ARGUMENT, "empty", kiln_options_set_jit_dump(options, ""));
    OK(kiln_options_set_jit_dump(options, folder));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_options_set_jit_profile(NULL, 2));
    OK(kiln_options_set_jit_profile(options, 8));

    kiln_runtime *runtime = (kiln_runtime *)options;
    FAILS(KILN_INVALID_ARGUMENT, "`runtime`: null", kiln_runtime_create(options, NULL));
    FAILS(KILN_INVALID_ARGUMENT, "`kiln_options_set_verbose`: got `loud`", kiln_runtime_create(options, &runtime));
    REQUIRE(runtime == NULL);
    OK(kiln_options_set_verbose(options, "none"));
    FAILS(KILN_INVALID_ARGUMENT, "`kiln_options_set_jit_profile`: got `8`", kiln_runtime_create(options, &runtime));
    OK(kiln_options_set_jit_profile(options, 0));
    OK(kiln_runtime_create(options, &runtime));
    /* The options are the caller's to change, or to free. */
    OK(kiln_options_set_threads(options, 1));
    kiln_options_free(options);
    kiln_options_free(NULL);
    REQUIRE(kiln_runtime_threads(runtime) == 3);

    /* Its target can be asked for by name, one of another architecture cannot. */
    OK(kiln_options_create(&options));
    OK(kiln_options_set_target(options, kiln_runtime_target(runtime)));
    kiln_runtime *same = NULL, *none = NULL;
    OK(kiln_runtime_create(options, &same));
    REQUIRE(strcmp(kiln_runtime_target(same), kiln_runtime_target(runtime)) == 0);
    bool x86 = strncmp(kiln_runtime_target(runtime), "x86", 3) == 0;
    OK(kiln_options_set_target(options, x86 ? "neoverse-v1" : "x86-64-v3"));
    FAILS(KILN_UNSUPPORTED, "", kiln_runtime_create(options, &none));
    REQUIRE(none == NULL);
    kiln_options_free(options);
    kiln_runtime_free(same);
    kiln_runtime_free(runtime);
    kiln_runtime_free(NULL);

    REQUIRE(kiln_runtime_threads(NULL) == 0);
    REQUIRE(kiln_runtime_target(NULL) == NULL);
    REQUIRE(kiln_packed_weights_bytes(NULL) == 0);
}

static void test_limits(void) {
    kiln_options *options;
    kiln_runtime *runtime;
    kiln_kernel *kernel;
    kiln_packed_weights *packed;
    static float weights[N * K];
    kiln_tensor rhs = f32(weights, N * K);
    OK(kiln_options_create(&options));
    OK(kiln_options_set_threads(options, 1));
    OK(kiln_options_set_packed_limit(options, 100));
    OK(kiln_runtime_create(options, &runtime));
    OK(kiln_kernel_create(runtime, LAYER, KILN_CONSTANT_WEIGHTS, &kernel));
    FAILS(KILN_LIMIT_EXCEEDED, "raise `kiln_options_set_packed_limit`", kiln_kernel_pack_weights(kernel, &rhs, &packed));
    REQUIRE(packed == NULL);
    kiln_kernel_free(kernel);
    kiln_runtime_free(runtime);

    OK(kiln_options_set_code_limit(options, 1));
    OK(kiln_runtime_create(options, &runtime));
    FAILS(KILN_LIMIT_EXCEEDED, "limit of 1 bytes", kiln_kernel_create(runtime, LAYER, 0, &kernel));
    REQUIRE(kernel == NULL);
    kiln_runtime_free(runtime);

    OK(kiln_options_set_strict(options, 1.0));
    OK(kiln_runtime_create(options, &runtime));
    FAILS(KILN_BELOW_BOUND, "predicted", kiln_kernel_create(runtime, LAYER, 0, &kernel));
    kiln_runtime_free(runtime);
    kiln_options_free(options);
}

static void test_descriptions(const kiln_runtime *runtime) {
    kiln_kernel *kernel = NULL;
    FAILS(KILN_INVALID_ARGUMENT, "`kernel`: null", kiln_kernel_create(runtime, LAYER, 0, NULL));
    FAILS(KILN_INVALID_ARGUMENT, "`runtime`: null", kiln_kernel_create(NULL, LAYER, 0, &kernel));
    FAILS(KILN_INVALID_ARGUMENT, "`problem`: null", kiln_kernel_create(runtime, NULL, 0, &kernel));
    FAILS(KILN_INVALID_ARGUMENT, "UTF-8", kiln_kernel_create(runtime, "ip f32 \xc3", 0, &kernel));
    FAILS(KILN_INVALID_ARGUMENT, "`flags`", kiln_kernel_create(runtime, LAYER, 6, &kernel));
    FAILS(KILN_INVALID_PROBLEM, "frobnicate", kiln_kernel_create(runtime, "frobnicate f32 1x1:1x1", 0, &kernel));
    FAILS(KILN_INVALID_PROBLEM, "", kiln_kernel_create(runtime, "matmul f32 2x3:4x5", 0, &kernel));
    REQUIRE(kernel == NULL);

    OK(kiln_kernel_create(runtime, " matmul  bf16:bf16:f32 8x16:16x24 +bias+add:ab ", 0, &kernel));
    kiln_kernel_info info = {.struct_size = sizeof info};
    FAILS(KILN_INVALID_ARGUMENT, "`kernel`: null", kiln_kernel_describe(NULL, &info));
    FAILS(KILN_INVALID_ARGUMENT, "`info`: null", kiln_kernel_describe(kernel, NULL));
    OK(kiln_kernel_describe(kernel, &info));
    REQUIRE(strcmp(info.problem, "matmul bf16:bf16:f32 8x16:16x24 +bias+add:ab") == 0);
    REQUIRE(info.code_bytes > 0 && info.tasks > 0 && info.packed_bytes == 0 && info.operands == 5);
    REQUIRE(info.predicted_fraction > 0 && info.predicted_fraction <= 1);

    static const struct {
        const char *name;
        kiln_role role;
        kiln_dtype dtype;
        size_t elements, rank;
        uint64_t shape[2], strides[2];
    } EXPECTED[] = {
        {"lhs", KILN_LHS, KILN_BF16, 8 * 16, 2, {8, 16}, {16, 1}}, {"rhs", KILN_RHS, KILN_BF16, 16 * 24, 2, {16, 24}, {24, 1}},
        {"bias", KILN_BIAS, KILN_F32, 24, 1, {24}, {1}},           {"add", KILN_POST, KILN_F32, 8 * 24, 2, {8, 24}, {24, 1}},
        {"dst", KILN_DST, KILN_F32, 8 * 24, 2, {8, 24}, {24, 1}},
    };
    kiln_operand_info operand = {.struct_size = sizeof operand};
    for (size_t i = 0; i < info.operands; i++) {
        OK(kiln_kernel_operand(kernel, i, &operand));
        REQUIRE(strcmp(operand.name, EXPECTED[i].name) == 0 && operand.role == EXPECTED[i].role);
        REQUIRE(operand.dtype == EXPECTED[i].dtype && operand.elements == EXPECTED[i].elements);
        REQUIRE(operand.rank == EXPECTED[i].rank);
        REQUIRE(memcmp(operand.shape, EXPECTED[i].shape, operand.rank * sizeof *operand.shape) == 0);
        REQUIRE(memcmp(operand.strides, EXPECTED[i].strides, operand.rank * sizeof *operand.strides) == 0);
    }
    FAILS(KILN_INVALID_ARGUMENT, "5 operands", kiln_kernel_operand(kernel, 5, &operand));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_kernel_operand(NULL, 0, &operand));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_kernel_operand(kernel, 0, NULL));
    kiln_kernel_free(kernel);
    kiln_kernel_free(NULL);
}

/* A program of an older version has shorter structs, one of a newer version longer ones. */
static void test_struct_sizes(const kiln_runtime *runtime) {
    struct {
        kiln_stats known;
        uint64_t newer;
    } stats;
    memset(&stats, 0xff, sizeof stats);
    FAILS(KILN_INVALID_ARGUMENT, "`stats`: struct_size is ", kiln_runtime_stats(runtime, &stats.known));
    stats.known.struct_size = 0;
    FAILS(KILN_INVALID_ARGUMENT, "`stats`: struct_size is 0, expected at least", kiln_runtime_stats(runtime, &stats.known));
    stats.known.struct_size = sizeof stats;
    OK(kiln_runtime_stats(runtime, &stats.known));
    REQUIRE(stats.known.struct_size == sizeof stats && stats.known.hits < 1000 && stats.newer == 0);
    stats.known.struct_size = sizeof stats.known;
    stats.newer = 7;
    OK(kiln_runtime_stats(runtime, &stats.known));
    REQUIRE(stats.newer == 7);

    kiln_kernel *kernel;
    float one = 3, two = 5, product = 0;
    struct {
        kiln_args known;
        uint64_t newer;
    } args;
    memset(&args, 0, sizeof args);
    args.known.lhs = f32(&one, 1);
    args.known.rhs = f32(&two, 1);
    args.known.dst.data = &product;
    args.known.dst.dtype = KILN_F32;
    args.known.dst.elements = 1;
    OK(kiln_kernel_create(runtime, "matmul f32 1x1:1x1", 0, &kernel));
    FAILS(KILN_INVALID_ARGUMENT, "`args`: struct_size is 0", kiln_kernel_run(kernel, &args.known));
    args.known.struct_size = sizeof args;
    OK(kiln_kernel_run(kernel, &args.known));
    REQUIRE(product == 15);
    args.newer = 1;
    FAILS(KILN_INVALID_ARGUMENT, "`args`: a field is set", kiln_kernel_run(kernel, &args.known));
    kiln_kernel_free(kernel);
}

static void test_cache(const kiln_runtime *runtime) {
    kiln_stats before = {.struct_size = sizeof before}, after = {.struct_size = sizeof after};
    kiln_kernel *kernel;
    kiln_request requests[] = {{"matmul f32 3x4:4x5", 0}, {NULL, 0}, {"matmul f32 3x4:4x6", 8}, {"ip f32 nonsense", 0}};
    kiln_status statuses[4];
    FAILS(KILN_INVALID_ARGUMENT, "`runtime`: null", kiln_runtime_renew_threads(NULL));
    FAILS(KILN_INVALID_ARGUMENT, "`runtime`: null", kiln_runtime_stats(NULL, &before));
    FAILS(KILN_INVALID_ARGUMENT, "`stats`: null", kiln_runtime_stats(runtime, NULL));
    FAILS(KILN_INVALID_ARGUMENT, "`runtime`: null", kiln_runtime_clear(NULL));
    OK(kiln_runtime_clear(runtime));
    OK(kiln_runtime_stats(runtime, &before));
    REQUIRE(before.cached_kernels == 0 && before.compilations > 0 && before.compile_nanoseconds > 0);

    FAILS(KILN_INVALID_ARGUMENT, "`runtime`: null", kiln_runtime_warm(NULL, requests, 1, NULL));
    FAILS(KILN_INVALID_ARGUMENT, "`requests`: null", kiln_runtime_warm(runtime, NULL, 1, NULL));
    OK(kiln_runtime_warm(runtime, NULL, 0, NULL));
    FAILS(KILN_INVALID_ARGUMENT, "request 1: ", kiln_runtime_warm(runtime, requests, 4, statuses));
    REQUIRE(statuses[0] == KILN_OK && statuses[1] == KILN_INVALID_ARGUMENT);
    REQUIRE(statuses[2] == KILN_INVALID_ARGUMENT && statuses[3] == KILN_INVALID_PROBLEM);
    OK(kiln_runtime_warm(runtime, requests, 1, NULL));
    OK(kiln_kernel_create(runtime, requests[0].problem, 0, &kernel));
    kiln_kernel_free(kernel);
    OK(kiln_runtime_stats(runtime, &after));
    REQUIRE(after.compilations == before.compilations + 1 && after.hits == before.hits + 2);
    REQUIRE(after.cached_kernels == 1 && after.cached_bytes > 0 && after.code_live_bytes >= after.cached_bytes);
}

static void test_packs(const kiln_runtime *runtime, const char *folder) {
    char path[4096], nowhere[4200];
    const char *target = kiln_runtime_target(runtime);
    kiln_request requests[] = {{LAYER, KILN_CONSTANT_WEIGHTS}, {"matmul f32 3x4:4x5", 0}};
    kiln_request bad = {"nonsense", 0};
    REQUIRE(snprintf(path, sizeof path, "%s/kernels.pack", folder) < (int)sizeof path);
    REQUIRE(snprintf(nowhere, sizeof nowhere, "%s/no/such/folder", path) < (int)sizeof nowhere);
    FAILS(KILN_INVALID_ARGUMENT, "`file`: null", kiln_pack_write(NULL, target, requests, 2));
    FAILS(KILN_INVALID_ARGUMENT, "`target`: null", kiln_pack_write(path, NULL, requests, 2));
    FAILS(KILN_INVALID_ARGUMENT, "z80", kiln_pack_write(path, "z80", requests, 2));
    FAILS(KILN_INVALID_ARGUMENT, "`requests`: null", kiln_pack_write(path, target, NULL, 2));
    FAILS(KILN_INVALID_PROBLEM, "request 0: ", kiln_pack_write(path, target, &bad, 1));
    FAILS(KILN_FILE, nowhere, kiln_pack_write(nowhere, target, requests, 2));
    OK(kiln_pack_write(path, target, requests, 2));

    kiln_options *options;
    kiln_runtime *other;
    kiln_kernel *kernel;
    kiln_stats stats = {.struct_size = sizeof stats};
    OK(kiln_options_create(&options));
    OK(kiln_options_set_threads(options, 1));
    OK(kiln_options_add_pack(options, path));
    OK(kiln_options_add_pack(options, nowhere));
    OK(kiln_options_set_strict_settings(options, 1));
    FAILS(KILN_FILE, nowhere, kiln_runtime_create(options, &other));
    OK(kiln_options_set_strict_settings(options, 0));
    /* No directory either: each is told of once. */
    OK(kiln_options_set_cache_dir(options, nowhere));
    OK(kiln_runtime_create(options, &other));
    kiln_options_free(options);
    OK(kiln_runtime_pack_status(other, 0));
    FAILS(KILN_FILE, nowhere, kiln_runtime_pack_status(other, 1));
    REQUIRE(kiln_runtime_notices(other) == 2);
    const char *first = kiln_runtime_notice(other, 0), *second = kiln_runtime_notice(other, 1);
    REQUIRE(strstr(first, nowhere) == first && strstr(first, "the pack is not used"));
    REQUIRE(strstr(second, nowhere) == second && strstr(second, "the cache directory is not used"));
    REQUIRE(first == kiln_runtime_notice(other, 0));
    REQUIRE(kiln_runtime_notice(other, 2) == NULL && kiln_runtime_notice(NULL, 0) == NULL);
    REQUIRE(kiln_runtime_notices(NULL) == 0);
    FAILS(KILN_INVALID_ARGUMENT, "`index`", kiln_runtime_pack_status(other, 2));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_runtime_pack_status(NULL, 0));
    OK(kiln_kernel_create(other, LAYER, KILN_CONSTANT_WEIGHTS, &kernel));
    kiln_kernel_free(kernel);
    OK(kiln_kernel_create(other, LAYER, 0, &kernel));
    kiln_kernel_free(kernel);
    OK(kiln_runtime_stats(other, &stats));
    REQUIRE(stats.from_files == 1 && stats.compilations == 2);
    kiln_runtime_free(other);
    REQUIRE(remove(path) == 0);
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    test_texts();
    test_options(argv[1]);
    test_limits();

    kiln_runtime *runtime;
    OK(kiln_runtime_create(NULL, &runtime));
    test_descriptions(runtime);
    test_struct_sizes(runtime);
    test_cache(runtime);
    test_packs(runtime, argv[1]);
    kiln_runtime_free(runtime);
    puts("ok");
    return 0;
}
