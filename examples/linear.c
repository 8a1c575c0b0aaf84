/* A linear layer with bias and gelu, its weights packed once: compiled for this machine, called, and compared with plain C.
 *
 *     tools/install.sh --prefix ~/.local
 *     export PKG_CONFIG_PATH=~/.local/lib/pkgconfig
 *     cc -std=c99 examples/linear.c $(pkg-config --cflags --libs kiln) -Wl,-rpath,$HOME/.local/lib -lm -o linear
 *     ./linear
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kiln.h"

enum { ROWS = 8, IN = 64, OUT = 96 };
static const char *LAYER = "ip f32 mb8ic64oc96 +bias+gelu_erf";

static float src[ROWS * IN], weights[OUT * IN], bias[OUT], dst[ROWS * OUT];

static void check(kiln_status status) {
    if (status != KILN_OK) {
        fprintf(stderr, "%s: %s\n", kiln_status_name(status), kiln_last_error_message());
        exit(1);
    }
}

/* The same layer in double precision. Weights are OUT x IN, as PyTorch's Linear has them. */
static double expected(int row, int column) {
    double sum = bias[column];
    for (int k = 0; k < IN; k++) {
        sum += (double)src[row * IN + k] * weights[column * IN + k];
    }
    return 0.5 * sum * (1.0 + erf(sum / sqrt(2.0)));
}

int main(void) {
    kiln_runtime *runtime;
    kiln_kernel *kernel;
    check(kiln_runtime_create(NULL, &runtime));

    /* What is no problem is refused, with words for a person. */
    if (kiln_kernel_create(runtime, "ip f32 mb8ic64", 0, &kernel) != KILN_INVALID_PROBLEM) {
        return 1;
    }
    printf("refused: %s\n", kiln_last_error_message());

    check(kiln_kernel_create(runtime, LAYER, KILN_CONSTANT_WEIGHTS, &kernel));
    kiln_kernel_info info = {.struct_size = sizeof info};
    check(kiln_kernel_describe(kernel, &info));
    printf("%s: %zu bytes of code, %zu of packed weights\n", info.problem, info.code_bytes, info.packed_bytes);

    for (int i = 0; i < ROWS * IN; i++) src[i] = (float)(i % 13 - 6) / 8;
    for (int i = 0; i < OUT * IN; i++) weights[i] = (float)(i % 7 - 3) / 16;
    for (int i = 0; i < OUT; i++) bias[i] = (float)(i % 5 - 2) / 4;

    /* A kernel that gains nothing from packing reads its weights as they are. */
    kiln_tensor rhs = {weights, KILN_F32, OUT * IN};
    kiln_packed_weights *packed = NULL;
    if (info.packed_bytes > 0) {
        check(kiln_kernel_pack_weights(kernel, &rhs, &packed));
    }
    kiln_post_tensor post[] = {{{bias, KILN_F32, OUT}, 1}};
    kiln_args args = {
        .struct_size = sizeof args,
        .lhs = {src, KILN_F32, ROWS * IN},
        .post = post,
        .post_count = 1,
        .dst = {dst, KILN_F32, ROWS * OUT},
    };
    if (packed != NULL) {
        args.packed = packed;
    } else {
        args.rhs = rhs;
    }
    check(kiln_kernel_run(kernel, &args));

    int wrong = 0;
    for (int row = 0; row < ROWS; row++) {
        for (int column = 0; column < OUT; column++) {
            double want = expected(row, column), got = dst[row * OUT + column];
            if (!(fabs(got - want) <= 1e-5 * (1.0 + fabs(want)))) {
                fprintf(stderr, "row %d, column %d: expected %g, got %g\n", row, column, want, got);
                wrong = 1;
            }
        }
    }
    kiln_packed_weights_free(packed);
    kiln_kernel_free(kernel);
    kiln_runtime_free(runtime);
    if (!wrong) {
        puts("ok");
    }
    return wrong;
}
