/* A whole network, of an ONNX file or built in, on one input that is made up: its inputs and outputs, and the largest results.
 *
 *     tools/install.sh --prefix ~/.local
 *     export PKG_CONFIG_PATH=~/.local/lib/pkgconfig
 *     cc -std=c99 examples/network.c $(pkg-config --cflags --libs kiln) -Wl,-rpath,$HOME/.local/lib -o network
 *     ./network                              ResNet-50, its weights pseudo-random
 *     ./network model.onnx batch=1           open dimensions with their sizes
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kiln.h"

static void check(kiln_status status) {
    if (status != KILN_OK) {
        fprintf(stderr, "%s: %s\n", kiln_status_name(status), kiln_last_error_message());
        exit(1);
    }
}

static void *zeros(size_t count, size_t size) {
    void *memory = calloc(count > 0 ? count : 1, size);
    if (memory == NULL) {
        fputs("no memory\n", stderr);
        exit(1);
    }
    return memory;
}

static void print_value(const char *what, const kiln_value_info *info) {
    printf("%s %s:", what, info->name);
    for (size_t i = 0; i < info->rank; i++) printf(" %" PRIu64, info->shape[i]);
    printf("\n");
}

/* Some numbers for floats, and ones for integers: a mask that hides nothing, and a token that every network has. */
static void fill(void *data, const kiln_value_info *info) {
    for (size_t i = 0; i < info->elements; i++) {
        switch (info->dtype) {
            case KILN_F32: ((float *)data)[i] = (float)(i * 7 % 13) / 6 - 1; break;
            case KILN_I64: ((int64_t *)data)[i] = 1; break;
            case KILN_I32: ((int32_t *)data)[i] = 1; break;
            case KILN_BOOL: ((uint8_t *)data)[i] = 1; break;
            default: break;
        }
    }
}

/* The place and the value of the largest element of the last dimension, for each row of it. */
static void print_largest(const float *data, const kiln_value_info *info) {
    size_t columns = info->rank > 0 ? (size_t)info->shape[info->rank - 1] : 1;
    for (size_t row = 0; row * columns < info->elements; row++) {
        if (row == 4) {
            puts("  ...");
            break;
        }
        size_t largest = 0;
        for (size_t i = 1; i < columns; i++) {
            if (data[row * columns + i] > data[row * columns + largest]) largest = i;
        }
        printf("  %zu: largest at %zu, %g\n", row, largest, data[row * columns + largest]);
    }
}

int main(int argc, char **argv) {
    kiln_runtime *runtime;
    kiln_network_options *options;
    kiln_network *network;
    check(kiln_runtime_create(NULL, &runtime));
    check(kiln_network_options_create(&options));
    for (int i = 2; i < argc; i++) {
        char *size = strrchr(argv[i], '=');
        if (size == NULL) {
            fprintf(stderr, "usage: network [FILE [DIMENSION=SIZE...]]\n");
            return 1;
        }
        *size = 0;
        check(kiln_network_options_set_dim(options, argv[i], strtoull(size + 1, NULL, 10)));
    }
    if (argc > 1) {
        check(kiln_network_open(runtime, argv[1], options, &network));
    } else {
        check(kiln_network_built_in(runtime, "resnet50", options, &network));
    }
    kiln_network_options_free(options);

    kiln_network_info info = {.struct_size = sizeof info};
    check(kiln_network_describe(network, &info));
    printf("%zu steps, %zu kernels, %zu bytes of code, %zu of packed weights, %zu for values\n", info.steps, info.kernels,
           info.code_bytes, info.packed_bytes, info.arena_bytes);
    kiln_tensor *inputs = zeros(info.inputs, sizeof *inputs);
    kiln_tensor_mut *outputs = zeros(info.outputs, sizeof *outputs);
    kiln_value_info value = {.struct_size = sizeof value};
    for (size_t i = 0; i < info.inputs; i++) {
        check(kiln_network_input(network, i, &value));
        print_value("input", &value);
        void *data = zeros(value.bytes, 1);
        fill(data, &value);
        inputs[i].data = data;
        inputs[i].dtype = value.dtype;
        inputs[i].elements = value.elements;
    }
    for (size_t i = 0; i < info.outputs; i++) {
        check(kiln_network_output(network, i, &value));
        outputs[i].data = zeros(value.bytes, 1);
        outputs[i].dtype = value.dtype;
        outputs[i].elements = value.elements;
    }
    check(kiln_network_run(network, inputs, info.inputs, outputs, info.outputs));
    for (size_t i = 0; i < info.outputs; i++) {
        check(kiln_network_output(network, i, &value));
        print_value("output", &value);
        if (value.dtype == KILN_F32) print_largest(outputs[i].data, &value);
        free(outputs[i].data);
    }
    for (size_t i = 0; i < info.inputs; i++) free((void *)inputs[i].data);
    free(inputs);
    free(outputs);
    kiln_network_free(network);
    kiln_runtime_free(runtime);
    puts("ok");
    return 0;
}
