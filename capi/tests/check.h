/* What the test programs share. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kiln.h"

/* Ends the test where something is not as expected. */
static inline void require(bool holds, const char *what, int line) {
    if (!holds) {
        fprintf(stderr, "line %d: %s\nlast error: %s\n", line, what, kiln_last_error_message());
        exit(1);
    }
}
#define REQUIRE(condition) require((condition), #condition, __LINE__)
#define OK(call) REQUIRE((call) == KILN_OK)
/* The call fails so, and the thread's message contains the words. */
#define FAILS(status, words, call) \
    do { \
        REQUIRE((call) == (status)); \
        REQUIRE(strstr(kiln_last_error_message(), (words)) != NULL); \
    } while (0)

/* M x K by N x K: packed where weights are constant, on every target. */
enum { M = 8, K = 64, N = 96 };
#define LAYER "ip f32 mb8ic64oc96 +bias+relu"

static inline kiln_tensor f32(const float *data, size_t elements) {
    kiln_tensor tensor = {data, KILN_F32, elements};
    return tensor;
}

/* Integers: sums are exact in any order. */
static inline void fill(float *data, int count, int modulus) {
    for (int i = 0; i < count; i++) {
        data[i] = (float)(i % modulus - modulus / 2);
    }
}
