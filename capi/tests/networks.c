/* Networks by kiln.h, with all failures. Takes a directory for files, and model/tests/fixtures; prints "ok". */
#include <math.h>
#include <pthread.h>

#include "check.h"

enum { BATCH = 2, TOKENS = 5, MOST = 1 << 16 };
static const char *folder, *fixtures;

static char *joined(const char *first, const char *second) {
    size_t size = strlen(first) + strlen(second) + 2;
    char *path = malloc(size);
    REQUIRE(path != NULL && snprintf(path, size, "%s/%s", first, second) == (int)size - 1);
    return path;
}

/* The bytes of a file of at most MOST bytes. */
static size_t contents(const char *path, unsigned char *bytes) {
    FILE *file = fopen(path, "rb");
    REQUIRE(file != NULL);
    size_t size = fread(bytes, 1, MOST, file);
    REQUIRE(size > 0 && feof(file) && fclose(file) == 0);
    return size;
}

/* A tensor of a test set: ONNX's TensorProto, of which these files have small dimensions, the type, and the elements at the end. */
struct stored {
    uint64_t shape[4];
    size_t rank, bytes;
    unsigned char *data;
};

static struct stored stored(const char *set, const char *name) {
    struct stored tensor = {.rank = 0};
    char *set_path = joined(fixtures, set), *path = joined(set_path, name);
    unsigned char *file = malloc(MOST);
    REQUIRE(file != NULL);
    size_t size = contents(path, file), at = 0;
    for (; file[at] == 0x08; at += 2) {
        REQUIRE(file[at + 1] < 0x80 && tensor.rank < 4);
        tensor.shape[tensor.rank++] = file[at + 1];
    }
    REQUIRE(file[at] == 0x10 && file[at + 2] == 0x4a);
    at += 3;
    for (int shift = 0;; shift += 7) {
        tensor.bytes |= (size_t)(file[at] & 0x7f) << shift;
        if ((file[at++] & 0x80) == 0) break;
    }
    REQUIRE(at + tensor.bytes == size);
    tensor.data = malloc(tensor.bytes);
    REQUIRE(tensor.data != NULL);
    memcpy(tensor.data, file + at, tensor.bytes);
    free(file);
    free(path);
    free(set_path);
    return tensor;
}

static void test_options(const kiln_runtime *runtime) {
    kiln_network_options *options;
    kiln_network *network;
    uint64_t shape[] = {BATCH, TOKENS};
    int64_t tokens[BATCH * TOKENS] = {0};
    kiln_tensor value = {tokens, KILN_I64, BATCH * TOKENS}, bad = value;
    FAILS(KILN_INVALID_ARGUMENT, "`options`: null", kiln_network_options_create(NULL));
    OK(kiln_network_options_create(&options));
    FAILS(KILN_INVALID_ARGUMENT, "`options`: null", kiln_network_options_set_batch(NULL, 1));
    FAILS(KILN_INVALID_ARGUMENT, "`options`: null", kiln_network_options_set_sequence(NULL, 1));
    FAILS(KILN_INVALID_ARGUMENT, "`options`: null", kiln_network_options_set_mapped(NULL, 1));
    FAILS(KILN_INVALID_ARGUMENT, "`name`: null", kiln_network_options_set_dim(options, NULL, 1));
    FAILS(KILN_INVALID_ARGUMENT, "UTF-8", kiln_network_options_set_dim(options, "\xff", 1));
    FAILS(KILN_INVALID_ARGUMENT, "`input`: null", kiln_network_options_set_shape(options, NULL, shape, 2));
    FAILS(KILN_INVALID_ARGUMENT, "`shape`: null", kiln_network_options_set_shape(options, "x", NULL, 2));
    FAILS(KILN_INVALID_ARGUMENT, "too many", kiln_network_options_set_shape(options, "x", shape, (size_t)-1));
    FAILS(KILN_INVALID_ARGUMENT, "`value`: null", kiln_network_options_set_value(options, "x", NULL, shape, 2));
    bad.dtype = 99;
    FAILS(KILN_INVALID_ARGUMENT, "dtype 99", kiln_network_options_set_value(options, "x", &bad, shape, 2));
    bad = value, bad.elements--;
    FAILS(KILN_INVALID_ARGUMENT, "9 elements: expected 10", kiln_network_options_set_value(options, "x", &bad, shape, 2));
    bad = value, bad.data = NULL;
    FAILS(KILN_INVALID_ARGUMENT, "`value`: null", kiln_network_options_set_value(options, "x", &bad, shape, 2));
    shape[0] = UINT64_MAX;
    FAILS(KILN_INVALID_ARGUMENT, "too large", kiln_network_options_set_value(options, "x", &value, shape, 2));
    shape[0] = BATCH;
    FAILS(KILN_INVALID_ARGUMENT, "empty", kiln_network_options_set_weights(options, ""));
    OK(kiln_network_options_set_value(options, "x", &value, shape, 2));
    FAILS(KILN_INVALID_ARGUMENT, "only ONNX files", kiln_network_built_in(runtime, "bert-tiny", options, &network));
    kiln_network_options_free(options);
    kiln_network_options_free(NULL);
}

/* Built-in networks: what they are, and that an element of a batch does not depend on the others. */
static void test_built_in(const kiln_runtime *runtime) {
    kiln_network_options *options;
    kiln_network *network = (kiln_network *)&options, *one;
    FAILS(KILN_INVALID_ARGUMENT, "`network`: null", kiln_network_built_in(runtime, "bert-tiny", NULL, NULL));
    FAILS(KILN_INVALID_ARGUMENT, "`runtime`: null", kiln_network_built_in(NULL, "bert-tiny", NULL, &network));
    REQUIRE(network == NULL);
    FAILS(KILN_INVALID_ARGUMENT, "`name`: null", kiln_network_built_in(runtime, NULL, NULL, &network));
    FAILS(KILN_INVALID_ARGUMENT, "expected resnet50", kiln_network_built_in(runtime, "", NULL, &network));
    FAILS(KILN_INVALID_ARGUMENT, "`gpt7` is no", kiln_network_built_in(runtime, "gpt7", NULL, &network));
    OK(kiln_network_options_create(&options));
    OK(kiln_network_options_set_batch(options, 0));
    FAILS(KILN_INVALID_ARGUMENT, "a batch of 0", kiln_network_built_in(runtime, "distilbert-tiny", options, &network));
    OK(kiln_network_options_set_batch(options, BATCH));
    OK(kiln_network_options_set_sequence(options, 100000));
    FAILS(KILN_INVALID_ARGUMENT, "100000", kiln_network_built_in(runtime, "distilbert-tiny", options, &network));
    OK(kiln_network_options_set_sequence(options, TOKENS));
    FAILS(KILN_INVALID_ARGUMENT, "images", kiln_network_built_in(runtime, "resnet50", options, &network));
    OK(kiln_network_built_in(runtime, "distilbert-tiny", options, &network));
    OK(kiln_network_options_set_batch(options, 1));
    OK(kiln_network_built_in(runtime, "distilbert-tiny", options, &one));
    kiln_network_options_free(options);

    kiln_network_info info = {.struct_size = sizeof info};
    kiln_value_info value = {.struct_size = sizeof value};
    FAILS(KILN_INVALID_ARGUMENT, "`network`: null", kiln_network_describe(NULL, &info));
    FAILS(KILN_INVALID_ARGUMENT, "`info`: null", kiln_network_describe(network, NULL));
    OK(kiln_network_describe(network, &info));
    REQUIRE(info.inputs == 2 && info.outputs == 1 && info.steps > 5 && info.kernels > 1 && info.arena_bytes > 0);
    REQUIRE(info.code_bytes > 0 && info.packed_bytes + info.constant_bytes > 0 && info.loaded_weights == 0);
    FAILS(KILN_INVALID_ARGUMENT, "`network`: null", kiln_network_input(NULL, 0, &value));
    FAILS(KILN_INVALID_ARGUMENT, "`info`: null", kiln_network_input(network, 0, NULL));
    FAILS(KILN_INVALID_ARGUMENT, "the network has 2 inputs", kiln_network_input(network, 2, &value));
    FAILS(KILN_INVALID_ARGUMENT, "`network`: null", kiln_network_output(NULL, 0, &value));
    FAILS(KILN_INVALID_ARGUMENT, "the network has 1 outputs", kiln_network_output(network, (size_t)-1, &value));
    OK(kiln_network_input(network, 1, &value));
    REQUIRE(strcmp(value.name, "attention_mask") == 0 && value.dtype == KILN_I64 && value.rank == 2);
    OK(kiln_network_input(network, 0, &value));
    REQUIRE(strcmp(value.name, "input_ids") == 0 && value.dtype == KILN_I64 && value.rank == 2);
    REQUIRE(value.shape[0] == BATCH && value.shape[1] == TOKENS);
    REQUIRE(value.elements == BATCH * TOKENS && value.bytes == 8 * value.elements);
    OK(kiln_network_output(network, 0, &value));
    REQUIRE(value.dtype == KILN_F32 && value.rank == 2 && value.shape[0] == BATCH && value.shape[1] == 2);

    int64_t tokens[BATCH * TOKENS + 1], mask[BATCH * TOKENS];
    float logits[BATCH * 2] = {0}, alone[2];
    for (int i = 0; i < BATCH * TOKENS; i++) {
        tokens[i] = 7 * i + 1;
        mask[i] = 1;
    }
    kiln_tensor inputs[] = {{tokens, KILN_I64, BATCH * TOKENS}, {mask, KILN_I64, BATCH * TOKENS}};
    kiln_tensor_mut output = {logits, KILN_F32, BATCH * 2}, bad = output;
    FAILS(KILN_INVALID_ARGUMENT, "`network`: null", kiln_network_run(NULL, inputs, 2, &output, 1));
    FAILS(KILN_INVALID_ARGUMENT, "`inputs`: null", kiln_network_run(network, NULL, 2, &output, 1));
    FAILS(KILN_INVALID_ARGUMENT, "`outputs`: null", kiln_network_run(network, inputs, 2, NULL, 1));
    FAILS(KILN_INVALID_ARGUMENT, "1 tensors: the network has 2 inputs", kiln_network_run(network, inputs, 1, &output, 1));
    FAILS(KILN_INVALID_ARGUMENT, "tensors: the network has 2 inputs", kiln_network_run(network, inputs, (size_t)-1, &output, 1));
    FAILS(KILN_INVALID_ARGUMENT, "0 tensors: the network has 1 outputs", kiln_network_run(network, inputs, 2, NULL, 0));
    inputs[0].data = NULL;
    FAILS(KILN_INVALID_ARGUMENT, "`inputs[0]`: null; `input_ids` is", kiln_network_run(network, inputs, 2, &output, 1));
    inputs[0].data = (const char *)tokens + 4;
    FAILS(KILN_INVALID_ARGUMENT, "`inputs[0]`: not aligned", kiln_network_run(network, inputs, 2, &output, 1));
    inputs[0].data = tokens, inputs[0].elements--;
    FAILS(KILN_INVALID_ARGUMENT, "9 elements: expected 10", kiln_network_run(network, inputs, 2, &output, 1));
    inputs[0].elements++, inputs[0].dtype = KILN_I32;
    FAILS(KILN_INVALID_ARGUMENT, "expected KILN_I64", kiln_network_run(network, inputs, 2, &output, 1));
    inputs[0].dtype = KILN_I64;
    bad.data = tokens;
    FAILS(KILN_INVALID_ARGUMENT, "`outputs[0]`: overlaps inputs[0]", kiln_network_run(network, inputs, 2, &bad, 1));
    bad = output, bad.data = NULL;
    FAILS(KILN_INVALID_ARGUMENT, "`outputs[0]`: null", kiln_network_run(network, inputs, 2, &bad, 1));
    tokens[3] = 1000000;
    FAILS(KILN_INVALID_ARGUMENT, "index 1000000 is outside", kiln_network_run(network, inputs, 2, &output, 1));
    tokens[3] = 4;

    OK(kiln_network_run(network, inputs, 2, &output, 1));
    kiln_network *clone;
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_network_clone(NULL, &clone));
    FAILS(KILN_INVALID_ARGUMENT, "null", kiln_network_clone(one, NULL));
    OK(kiln_network_clone(one, &clone));
    kiln_network_free(one);
    for (int i = 0; i < BATCH; i++) {
        kiln_tensor of_one[] = {{tokens + i * TOKENS, KILN_I64, TOKENS}, {mask, KILN_I64, TOKENS}};
        kiln_tensor_mut result = {alone, KILN_F32, 2};
        OK(kiln_network_run(clone, of_one, 2, &result, 1));
        REQUIRE(fabsf(alone[0] - logits[2 * i]) < 1e-4f && fabsf(alone[1] - logits[2 * i + 1]) < 1e-4f);
        REQUIRE(alone[0] != alone[1]);
    }
    REQUIRE(logits[0] != logits[2]);
    kiln_network_free(clone);
    kiln_network_free(network);
    kiln_network_free(NULL);
}

/* A network of an ONNX file, with what ONNX's reference implementation gave for some inputs. */
static void check_results(const kiln_network *network, const char *set, kiln_dtype input_type, size_t input_size) {
    struct stored given[2], expected[2];
    kiln_tensor inputs[2];
    kiln_tensor_mut outputs[2];
    kiln_network_info info = {.struct_size = sizeof info};
    kiln_value_info value = {.struct_size = sizeof value};
    char name[32];
    OK(kiln_network_describe(network, &info));
    REQUIRE(info.inputs >= 1 && info.inputs <= 2 && info.outputs >= 1 && info.outputs <= 2);
    for (size_t i = 0; i < info.inputs; i++) {
        snprintf(name, sizeof name, "input_%d.pb", (int)i);
        given[i] = stored(set, name);
        inputs[i].data = given[i].data;
        inputs[i].dtype = input_type;
        inputs[i].elements = given[i].bytes / input_size;
    }
    for (size_t i = 0; i < info.outputs; i++) {
        snprintf(name, sizeof name, "output_%d.pb", (int)i);
        expected[i] = stored(set, name);
        OK(kiln_network_output(network, i, &value));
        REQUIRE(value.dtype == KILN_F32 && value.rank == expected[i].rank && value.bytes == expected[i].bytes);
        REQUIRE(memcmp(value.shape, expected[i].shape, value.rank * sizeof *value.shape) == 0);
        outputs[i].data = calloc(value.elements, sizeof(float));
        outputs[i].dtype = KILN_F32;
        outputs[i].elements = value.elements;
        REQUIRE(outputs[i].data != NULL);
    }
    OK(kiln_network_run(network, inputs, info.inputs, outputs, info.outputs));
    for (size_t i = 0; i < info.outputs; i++) {
        const float *result = outputs[i].data, *wanted = (const float *)expected[i].data;
        float largest = 0;
        for (size_t at = 0; at < outputs[i].elements; at++) {
            REQUIRE(fabsf(result[at] - wanted[at]) <= 1e-5f * (1 + fabsf(wanted[at])));
            largest = fmaxf(largest, fabsf(wanted[at]));
        }
        REQUIRE(largest > 0.1f);
        free(outputs[i].data);
        free(expected[i].data);
    }
    for (size_t i = 0; i < info.inputs; i++) {
        free(given[i].data);
    }
}

/* The network of tokens, for one sequence of seven. */
static void check_tokens(const kiln_network *network) {
    check_results(network, "tokens/test_data_set_0", KILN_I64, sizeof(int64_t));
}

/* The network of pixels, for one image of eight by eight. */
static void check_pixels(const kiln_network *network) {
    check_results(network, "pixels/test_data_set_0", KILN_F32, sizeof(float));
}

static void *run_often(void *network) {
    for (int i = 0; i < 10; i++) {
        check_tokens(network);
    }
    return NULL;
}

static void test_files(const kiln_runtime *runtime) {
    kiln_network_options *options;
    kiln_network *network;
    char *path = joined(fixtures, "tokens/model.onnx"), *nowhere = joined(folder, "no.onnx");
    FAILS(KILN_INVALID_ARGUMENT, "`file`: null", kiln_network_open(runtime, NULL, NULL, &network));
    FAILS(KILN_INVALID_ARGUMENT, "empty", kiln_network_open(runtime, "", NULL, &network));
    FAILS(KILN_FILE, nowhere, kiln_network_open(runtime, nowhere, NULL, &network));
    FAILS(KILN_FILE, "model.onnx", kiln_network_open(runtime, folder, NULL, &network));
    FAILS(KILN_INVALID_ARGUMENT, "kiln_network_options_set_", kiln_network_open(runtime, path, NULL, &network));
    OK(kiln_network_options_create(&options));
    OK(kiln_network_options_set_dim(options, "no_such", 3));
    FAILS(KILN_INVALID_ARGUMENT, "no_such", kiln_network_open(runtime, path, options, &network));
    kiln_network_options_free(options);

    /* Sizes that no tensor, or no memory, has. */
    static const uint64_t HUGE_SIZES[] = {UINT64_MAX, (uint64_t)1 << 50};
    OK(kiln_network_options_create(&options));
    OK(kiln_network_options_set_sequence(options, 7));
    for (size_t i = 0; i < sizeof HUGE_SIZES / sizeof *HUGE_SIZES; i++) {
        OK(kiln_network_options_set_batch(options, HUGE_SIZES[i]));
        kiln_status status = kiln_network_open(runtime, path, options, &network);
        REQUIRE(status == KILN_INVALID_ARGUMENT || status == KILN_INVALID_NETWORK || status == KILN_OUT_OF_MEMORY);
        REQUIRE(strstr(kiln_last_error_message(), "too large") != NULL);
    }
    OK(kiln_network_options_set_batch(options, 1));
    OK(kiln_network_open(runtime, path, options, &network));
    check_tokens(network);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, run_often, network) == 0);
    }
    for (int i = 0; i < 2; i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    }

    kiln_network_free(network);
    kiln_network_options_free(options);

    /* The same sizes by shapes; a folder with a model.onnx. */
    static const uint64_t SHAPE[] = {1, 7};
    kiln_value_info info = {.struct_size = sizeof info};
    OK(kiln_network_options_create(&options));
    OK(kiln_network_options_set_shape(options, "ids", SHAPE, 2));
    OK(kiln_network_options_set_shape(options, "mask", SHAPE, 2));
    path[strlen(path) - strlen("/model.onnx")] = 0;
    OK(kiln_network_open(runtime, path, options, &network));
    OK(kiln_network_input(network, 0, &info));
    REQUIRE(strcmp(info.name, "ids") == 0);
    check_tokens(network);
    kiln_network_free(network);
    kiln_network_options_free(options);
    free(path);
    free(nowhere);

    /* The same by what the inputs will be, and a type that they have not. */
    struct stored ids = stored("tokens/test_data_set_0", "input_0.pb"), mask = stored("tokens/test_data_set_0", "input_1.pb");
    kiln_tensor value = {ids.data, KILN_I64, 7};
    path = joined(fixtures, "tokens/model.onnx");
    OK(kiln_network_options_create(&options));
    OK(kiln_network_options_set_value(options, "ids", &value, SHAPE, 2));
    value.data = mask.data;
    OK(kiln_network_options_set_value(options, "mask", &value, SHAPE, 2));
    OK(kiln_network_open(runtime, path, options, &network));
    check_tokens(network);
    kiln_network_free(network);
    value.dtype = KILN_F64;
    OK(kiln_network_options_set_value(options, "mask", &value, SHAPE, 2));
    FAILS(KILN_INVALID_ARGUMENT, "input `mask` is bound as a value of f64[1x7]", kiln_network_open(runtime, path, options, &network));
    kiln_network_options_free(options);
    free(ids.data);
    free(mask.data);
    free(path);

    /* A folder as Hugging Face lays it out: its sizes have no names, and it says which it does not take. */
    path = joined(fixtures, "../pretrained/bert");
    OK(kiln_network_options_create(&options));
    OK(kiln_network_options_set_batch(options, 2));
    OK(kiln_network_options_set_sequence(options, 3));
    OK(kiln_network_open(runtime, path, options, &network));
    OK(kiln_network_input(network, 0, &info));
    REQUIRE(strcmp(info.name, "input_ids") == 0 && info.shape[0] == 2 && info.shape[1] == 3);
    kiln_network_free(network);
    OK(kiln_network_options_set_sequence(options, 1 << 20));
    FAILS(KILN_INVALID_ARGUMENT, "sequences of 1 to", kiln_network_open(runtime, path, options, &network));
    kiln_network_options_free(options);
    free(path);
}

/* Packed weights of a process before, and a mapped file. */
static void test_weights(const kiln_runtime *runtime) {
    kiln_network_options *options;
    kiln_network *network;
    char *path = joined(fixtures, "pixels/model.onnx"), *nowhere = joined(folder, "no.weights"), *weights = joined(folder, "weights");
    OK(kiln_network_options_create(&options));
    OK(kiln_network_options_set_dim(options, "batch", 1));
    OK(kiln_network_options_set_dim(options, "height", 8));
    OK(kiln_network_options_set_dim(options, "width", 8));
    OK(kiln_network_open(runtime, path, options, &network));
    check_pixels(network);
    kiln_network_info before = {.struct_size = sizeof before}, after = before;
    OK(kiln_network_describe(network, &before));
    REQUIRE(before.packed_weights > 0 && before.packed_bytes > 0 && before.loaded_weights == 0);
    FAILS(KILN_INVALID_ARGUMENT, "`network`: null", kiln_network_write_weights(NULL, weights));
    FAILS(KILN_INVALID_ARGUMENT, "`file`: null", kiln_network_write_weights(network, NULL));
    FAILS(KILN_FILE, folder, kiln_network_write_weights(network, folder));
    OK(kiln_network_write_weights(network, weights));
    kiln_network_free(network);
    OK(kiln_network_options_set_weights(options, nowhere));
    FAILS(KILN_FILE, nowhere, kiln_network_open(runtime, path, options, &network));
    OK(kiln_network_options_set_weights(options, path));
    FAILS(KILN_FILE, path, kiln_network_open(runtime, path, options, &network));
    OK(kiln_network_options_set_weights(options, weights));
    OK(kiln_network_options_set_mapped(options, 1));
    OK(kiln_network_open(runtime, path, options, &network));
    OK(kiln_network_describe(network, &after));
    REQUIRE(after.packed_weights == before.packed_weights && after.loaded_weights == after.packed_weights);
    check_pixels(network);
    kiln_network_free(network);
    kiln_network_options_free(options);
    REQUIRE(remove(weights) == 0);
    free(path);
    free(nowhere);
    free(weights);
}

/* A network is called after its runtime was freed, on two threads of the runtime's. */
static void test_freeing_order(void) {
    kiln_options *runtime_options;
    kiln_network_options *options;
    kiln_runtime *runtime;
    kiln_network *network;
    char *path = joined(fixtures, "tokens/model.onnx");
    OK(kiln_options_create(&runtime_options));
    OK(kiln_options_set_threads(runtime_options, 2));
    OK(kiln_runtime_create(runtime_options, &runtime));
    kiln_options_free(runtime_options);
    OK(kiln_network_options_create(&options));
    OK(kiln_network_options_set_batch(options, 1));
    OK(kiln_network_options_set_sequence(options, 7));
    OK(kiln_network_open(runtime, path, options, &network));
    kiln_network_options_free(options);
    kiln_runtime_free(runtime);
    check_tokens(network);
    kiln_network_free(network);

    /* Packed weights that are more than the runtime allows. */
    OK(kiln_options_create(&runtime_options));
    OK(kiln_options_set_packed_limit(runtime_options, 100));
    OK(kiln_runtime_create(runtime_options, &runtime));
    kiln_options_free(runtime_options);
    free(path);
    path = joined(fixtures, "pixels/model.onnx");
    OK(kiln_network_options_create(&options));
    OK(kiln_network_options_set_dim(options, "batch", 1));
    OK(kiln_network_options_set_dim(options, "height", 8));
    OK(kiln_network_options_set_dim(options, "width", 8));
    FAILS(KILN_LIMIT_EXCEEDED, "kiln_options_set_packed_limit", kiln_network_open(runtime, path, options, &network));
    REQUIRE(network == NULL);
    kiln_network_options_free(options);
    kiln_runtime_free(runtime);
    free(path);
}

/* Whatever the bytes are, the call succeeds or says what is wrong with them. */
static void test_malformed(const kiln_runtime *runtime) {
    kiln_network_options *options;
    kiln_network *network;
    char *path = joined(fixtures, "tokens/model.onnx");
    unsigned char *bytes = malloc(MOST);
    REQUIRE(bytes != NULL);
    size_t size = contents(path, bytes);
    int refused = 0, tried = 0;
    OK(kiln_network_options_create(&options));
    OK(kiln_network_options_set_batch(options, 1));
    OK(kiln_network_options_set_sequence(options, 7));
    FAILS(KILN_INVALID_ARGUMENT, "`bytes`: null", kiln_network_parse(runtime, NULL, 1, options, &network));
    FAILS(KILN_INVALID_ARGUMENT, "too many", kiln_network_parse(runtime, bytes, (size_t)-1, options, &network));
    FAILS(KILN_INVALID_NETWORK, "no graph", kiln_network_parse(runtime, NULL, 0, options, &network));
    FAILS(KILN_INVALID_NETWORK, "no ONNX file", kiln_network_parse(runtime, "\xff\xff\xff", 3, options, &network));
    OK(kiln_network_parse(runtime, bytes, size, options, &network));
    check_tokens(network);
    kiln_network_free(network);
    for (size_t at = 0; at < size; at += 29) {
        for (int is_cut = 0; is_cut < 2; is_cut++) {
            unsigned char before = bytes[at];
            if (!is_cut) bytes[at] ^= (unsigned char)(1 << at % 8);
            kiln_status status = kiln_network_parse(runtime, bytes, is_cut ? at : size, options, &network);
            bytes[at] = before;
            tried++;
            if (status == KILN_OK) {
                kiln_network_free(network);
            } else {
                REQUIRE(status == KILN_INVALID_NETWORK || status == KILN_UNSUPPORTED || status == KILN_INVALID_ARGUMENT);
                REQUIRE(network == NULL && strlen(kiln_last_error_message()) > 0);
                refused++;
            }
        }
    }
    /* Cut files at least. */
    REQUIRE(2 * refused >= tried && tried > 200);
    kiln_network_options_free(options);
    free(bytes);
    free(path);
}

int main(int argc, char **argv) {
    REQUIRE(argc == 3);
    folder = argv[1], fixtures = argv[2];
    kiln_runtime *runtime;
    OK(kiln_runtime_create(NULL, &runtime));
    test_options(runtime);
    test_built_in(runtime);
    test_files(runtime);
    test_weights(runtime);
    test_malformed(runtime);
    kiln_runtime_free(runtime);
    test_freeing_order();
    puts("ok");
    return 0;
}
