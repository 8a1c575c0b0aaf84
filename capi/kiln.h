// Kiln's C API: kernels compiled for this machine, cached, and called safely. For C99 and later, and C++.
// Generated from capi/src by `cargo xtask header`.

#ifndef KILN_H
#define KILN_H

#include <stddef.h>
#include <stdint.h>

// Functions that can fail return a `kiln_status`; when it is not KILN_OK, `kiln_last_error_message` says more. Nothing is thrown.
//
// Handles come out through pointers, which are NULL after a failure. Each is freed by the `_free` function of its type, in any
// order: a kernel stays usable after its runtime's handle is freed. Where a pointer is NULL that may not be, the call fails; the
// `_free` functions ignore it.
//
// All handles but those of options may be used by several threads at once. None is freed while a call uses it.
//
// Undefined behaviour, since it cannot be noticed: a handle that was freed, or that is not one; memory that is shorter than said,
// or that somebody writes during the call; a string without its end.
//
// Strings are UTF-8. KILN_OUT_OF_MEMORY is returned when there is no memory for code, packed weights or scratch memory; without
// memory for anything smaller the process ends.

// The weights of a request stay the same over many calls and may be packed before them.
#define KILN_CONSTANT_WEIGHTS 1

// The most dimensions of an operand.
#define KILN_MAX_RANK 6

// What a function returns.
typedef enum {
  // Done.
  KILN_OK = 0,
  // An argument, an option or an environment variable is not one: null, of another size or type, overlapping, misspelt.
  KILN_INVALID_ARGUMENT = 1,
  // The text is no problem, or the problem cannot be.
  KILN_INVALID_PROBLEM = 2,
  // Valid, but not on this machine or for this target.
  KILN_UNSUPPORTED = 3,
  // The operating system gives no memory, or none that is executable.
  KILN_OUT_OF_MEMORY = 4,
  // More memory than an option allows.
  KILN_LIMIT_EXCEEDED = 5,
  // A kernel is predicted to be slower than `kiln_options_set_strict` allows.
  KILN_BELOW_BOUND = 6,
  // A file cannot be written, or a pack cannot be used; with strict settings, any notice.
  KILN_FILE = 7,
  // Threads could not be started, or did not do their work.
  KILN_THREADS = 8,
  // A defect of the compiler, noticed by itself.
  KILN_INTERNAL = 9,
  // A defect of the library. What the call was to write may be written in part; handles remain valid.
  KILN_PANIC = 10,
} kiln_status;

// What an operand is.
typedef enum {
  // The left operand, the source.
  KILN_LHS = 0,
  // The right operand, the weights.
  KILN_RHS = 1,
  // The tensor of a post-op that is a bias.
  KILN_BIAS = 2,
  // The tensor of another post-op.
  KILN_POST = 3,
  // The result.
  KILN_DST = 4,
} kiln_role;

// The type of a tensor's elements.
typedef enum {
  // `float`.
  KILN_F32 = 1,
  // bfloat16, the upper half of a `float`, as `uint16_t`.
  KILN_BF16 = 2,
} kiln_dtype;

// Problems that differ in one number, such as how many rows there are.
typedef struct kiln_family kiln_family;

// Machine code for one problem, and what a call of it needs.
typedef struct kiln_kernel kiln_kernel;

// Options of a runtime. What is not set comes from the environment, then from a default. Used by one thread at a time.
typedef struct kiln_options kiln_options;

// Constant weights in the order in which kernels read them.
typedef struct kiln_packed_weights kiln_packed_weights;

// Compiles problems once and keeps their kernels.
typedef struct kiln_runtime kiln_runtime;

// A kernel that is wanted.
typedef struct {
  // The problem, such as "ip f32 mb8ic64oc96 +bias+gelu_erf".
  const char *problem;
  // 0 or `KILN_CONSTANT_WEIGHTS`.
  uint32_t flags;
} kiln_request;

// Counters of a runtime, each group read at one moment.
typedef struct {
  // Look-ups that found a kernel.
  uint64_t hits;
  // Look-ups that did not.
  uint64_t misses;
  // Misses that waited for another thread's compilation.
  uint64_t waits;
  // Misses that were answered with the error of an attempt before.
  uint64_t refusals;
  // Kernels made, or tried to be made, from packs as well.
  uint64_t compilations;
  // The time that took, in nanoseconds, summed over threads.
  uint64_t compile_nanoseconds;
  // Kernels that left the cache for want of capacity.
  uint64_t evictions;
  // Kernels in the cache.
  uint64_t cached_kernels;
  // Executable memory of the kernels in the cache, in bytes.
  uint64_t cached_bytes;
  // Kernels that came from packs or the cache directory.
  uint64_t unpacked;
  // Executable memory mapped, in bytes.
  uint64_t code_reserved_bytes;
  // Executable memory in use, in bytes.
  uint64_t code_live_bytes;
  // The most executable memory that was in use at once, in bytes.
  uint64_t code_peak_bytes;
  // Scratch memory kept for calls, in bytes.
  uint64_t scratch_bytes;
  // Allocations of scratch memory so far; constant in steady state.
  uint64_t scratch_allocations;
  // Packed weights alive, in bytes.
  uint64_t packed_bytes;
} kiln_stats;

// What is known of a kernel.
typedef struct {
  // The canonical text of the problem. It names the runtime's `fpmath` where the problem named none and the runtime's is not
  // strict. Valid as long as the handle.
  const char *problem;
  // Machine code, in bytes.
  size_t code_bytes;
  // Independent tasks that a call may be divided into.
  uint64_t tasks;
  // Temporary memory of each thread in a call, in bytes.
  size_t scratch_bytes;
  // How large weights packed for this kernel are, in bytes; 0 if it reads them in place and takes no packed ones.
  size_t packed_bytes;
  // Operands, which `kiln_kernel_operand` describes.
  size_t operands;
  // How fast it is predicted to be on one thread, as a fraction of what the target's arithmetic and memory allow.
  double predicted_fraction;
} kiln_kernel_info;

// What is known of an operand.
typedef struct {
  // Its name in messages, such as "lhs" or "bias". Valid as long as the kernel's handle.
  const char *name;
  // What it is.
  kiln_role role;
  // The type of its elements.
  kiln_dtype dtype;
  // How many elements a tensor of it has. Where it has strides: from the first to one past the last, gaps included.
  size_t elements;
  // How many dimensions it has, at most `KILN_MAX_RANK`.
  size_t rank;
  // Its dimensions, in the problem's order.
  uint64_t shape[KILN_MAX_RANK];
  // Elements between neighbours along each dimension.
  uint64_t strides[KILN_MAX_RANK];
} kiln_operand_info;

// A tensor that a call reads, in the memory order that its operand has in the problem.
typedef struct {
  // The elements, aligned for their type. Two inputs may overlap.
  const void *data;
  // A `kiln_dtype`.
  uint32_t dtype;
  // How many elements there are. Of an operand with strides: from the first to the last at least, gaps between them included.
  // Gaps of lhs, rhs and dst are neither read nor written by calls, so that others may use what is there.
  size_t elements;
} kiln_tensor;

// The tensor of a post-op.
typedef struct {
  // The tensor.
  kiln_tensor tensor;
  // If not 0, the post-op must be a bias.
  int32_t is_bias;
} kiln_post_tensor;

// The tensor that a call writes.
typedef struct {
  // The elements, aligned for their type. No other tensor of the call overlaps the range from the first to the last.
  void *data;
  // A `kiln_dtype`.
  uint32_t dtype;
  // How many elements there are, as of a `kiln_tensor`.
  size_t elements;
} kiln_tensor_mut;

// The tensors of one call.
typedef struct {
  // The source.
  kiln_tensor lhs;
  // The weights, if they are not packed; else all zero.
  kiln_tensor rhs;
  // The weights, if the kernel takes packed ones; else NULL.
  const kiln_packed_weights *packed;
  // The tensors of the post-ops that read one, in the problem's order; NULL if there are none.
  const kiln_post_tensor *post;
  // How many there are.
  size_t post_count;
  // The result. Overwritten, or added to where the problem has `beta=1`. Overlaps nothing else of the call.
  kiln_tensor_mut dst;
} kiln_args;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The library's version and a hash of its compiler's sources, which packs and cache directories depend on. Never NULL, and
// valid for ever.
const char *kiln_version(void);

// The message of the calling thread's last failure, which the thread's next one changes. Never NULL; empty if there was
// none.
const char *kiln_last_error_message(void);

// The name of a status, such as "KILN_OK", and "unknown status" of other numbers. Never NULL, and valid for ever.
const char *kiln_status_name(int32_t status);

// Makes options of which none is set.
kiln_status kiln_options_create(kiln_options **options);

// Frees options. Runtimes made with them are not concerned.
void kiln_options_free(kiln_options *options);

// Threads that large problems are divided among, of the runtime's own: from 1 to 1024. Unless set, `KILN_NUM_THREADS`,
// `OMP_NUM_THREADS` or `RAYON_NUM_THREADS`, else as many as the process may use.
kiln_status kiln_options_set_threads(kiln_options *options, size_t threads);

// Calls that are divided at once, each among `threads` threads of its own: no more than 1024 threads in all. Unless set,
// `KILN_NUM_STREAMS`, else 1.
kiln_status kiln_options_set_streams(kiln_options *options, size_t streams);

// Microseconds for which an idle thread of the runtime's own looks for work before it sleeps; 0 for none. Unless set, `KILN_SPIN`,
// else 100 if there are as many processors as threads, otherwise 0.
kiln_status kiln_options_set_spin(kiln_options *options, uint64_t microseconds);

// Kernels the cache keeps; 0 disables it. Unless set, `KILN_CACHE_CAPACITY`, else 1024.
kiln_status kiln_options_set_cache_capacity(kiln_options *options, size_t kernels);

// Bytes of executable memory, in whole pages, that cached kernels may occupy. Unless set, `KILN_CACHE_BYTES`, else no
// limit.
kiln_status kiln_options_set_cache_bytes(kiln_options *options, size_t bytes);

// Bytes of executable memory that kernels may occupy together, cached or not: more is `KILN_LIMIT_EXCEEDED`. Unless set, no
// limit.
kiln_status kiln_options_set_code_limit(kiln_options *options, size_t bytes);

// Bytes that packed weights may occupy together: more is `KILN_LIMIT_EXCEEDED`. Unless set, no limit.
kiln_status kiln_options_set_packed_limit(kiln_options *options, size_t bytes);

// The arithmetic of problems with f32 source that name none: "strict", "bf16" or "any". Unless set, `KILN_FPMATH_MODE`, else
// strict. A problem that says `fpmath=strict` is strict all the same.
kiln_status kiln_options_set_fpmath(kiln_options *options, const char *mode);

// What to compile for, such as "neoverse-v1" or "x86-64-v3", which this machine must be able to run. Unless set, what is
// detected, limited by `KILN_MAX_CPU_ISA`.
kiln_status kiln_options_set_target(kiln_options *options, const char *target);

// Adds a pack, from which kernels are taken instead of compiling them. Packs are asked in the order they are added. One that
// cannot be used is no error of the runtime unless settings are strict: `kiln_runtime_pack_status` says why, and a notice.
//
// The code in the file is executed: it is undefined behaviour if anything but `kiln_pack_write`, `kiln pack build` or `kiln model` made it.
// Nobody whom the program does not trust may be able to change it until the runtime is created.
kiln_status kiln_options_add_pack(kiln_options *options,
                                  const char *file);

// A directory where compiled kernels are kept, and found again by other processes of the same user. Processes that use it at once
// compile each kernel once, unless one keeps the others waiting for more than five seconds. Unless set, `KILN_CACHE_DIR` if that is
// a directory of the user's own, that nobody else may write to, and no link; else none. One that cannot be used is no error unless
// settings are strict: a notice says why.
//
// Code in the directory is executed: nobody whom the program does not trust may be able to write to it, as long as the runtime is
// used.
kiln_status kiln_options_set_cache_dir(kiln_options *options, const char *folder);

// If not 0, settings that cannot be followed are errors, where they are notices otherwise: packs and cache directories that cannot
// be used, and files that cannot be written. What is noticed when the runtime is created fails that, what is noticed later fails the
// kernel, by `KILN_FILE`. Unless set, `KILN_STRICT_SETTINGS`, else 0.
kiln_status kiln_options_set_strict_settings(kiln_options *options,
                                             int32_t strict);

// Bytes that the files of the cache directory may occupy: the oldest go. Unless set, 256 MiB.
kiln_status kiln_options_set_cache_dir_bytes(kiln_options *options, uint64_t bytes);

// Refuses, by `KILN_BELOW_BOUND`, kernels that are predicted to reach less than this fraction, from 0 to 1, of what the target's
// arithmetic and memory allow. Unless set, 0.
kiln_status kiln_options_set_strict(kiln_options *options, double least_fraction);

// What lines are written about to standard output, in the words of `KILN_VERBOSE`, which holds unless set: "none", "error",
// "warn", "profile_create", "profile_exec", "profile", "dispatch", "all", or several with commas. Looked at when the runtime is made.
kiln_status kiln_options_set_verbose(kiln_options *options,
                                     const char *words);

// Makes a runtime. `options` may be NULL: none is set.
kiln_status kiln_runtime_create(const kiln_options *options, kiln_runtime **runtime);

// Another handle to the same runtime.
kiln_status kiln_runtime_clone(const kiln_runtime *runtime, kiln_runtime **clone);

// Frees a handle. With the last one to a runtime, its kernels and its families, the runtime goes. The threads that calls were
// divided among have ended then; the one that compiles for families ends soon.
void kiln_runtime_free(kiln_runtime *runtime);

// Threads that large problems are divided among; 0 of NULL.
size_t kiln_runtime_threads(const kiln_runtime *runtime);

// What the runtime compiles for, as `kiln_options_set_target` and `kiln_pack_write` take it. Valid as long as the handle; NULL
// of NULL.
const char *kiln_runtime_target(const kiln_runtime *runtime);

// Whether the pack that was added at this place, from 0, is used; `KILN_FILE` if it is not, and the message says why.
kiln_status kiln_runtime_pack_status(const kiln_runtime *runtime, size_t index);

// How many notices there are by now: of settings that cannot be followed, and files that are not used. 0 of NULL. Threads that make
// kernels may add more at any time.
size_t kiln_runtime_notices(const kiln_runtime *runtime);

// The notice at a place, from 0, in the order in which they came: the file or directory, and what to change. Valid as long as the
// handle; NULL where there is none, and of NULL.
const char *kiln_runtime_notice(const kiln_runtime *runtime, size_t index);

// Makes kernels before they are needed, on as many threads as the runtime has. Kernels that the cache has no room for are lost
// again.
//
// `statuses`, unless it is NULL, gets the status of each request. The function returns the first that is not `KILN_OK`, with
// its message, after all others have been made.
kiln_status kiln_runtime_warm(const kiln_runtime *runtime, const kiln_request *requests, size_t count, kiln_status *statuses);

// Reads the counters.
kiln_status kiln_runtime_stats(const kiln_runtime *runtime, kiln_stats *stats);

// Forgets all kernels and frees scratch memory. Kernels that there are handles to remain valid.
kiln_status kiln_runtime_clear(const kiln_runtime *runtime);

// The kernel of a problem: cached, from a pack, or compiled now. `flags` is 0 or `KILN_CONSTANT_WEIGHTS`. Threads that ask for
// the same at once share one compilation.
//
// The text is parsed each time: a program that makes many calls keeps the kernel.
kiln_status kiln_kernel_create(const kiln_runtime *runtime, const char *problem, uint32_t flags, kiln_kernel **kernel);

// Another handle to the same kernel.
kiln_status kiln_kernel_clone(const kiln_kernel *kernel, kiln_kernel **clone);

// Frees a handle. The code goes with the last one, once the cache has let go of it too.
void kiln_kernel_free(kiln_kernel *kernel);

// Describes a kernel.
kiln_status kiln_kernel_describe(const kiln_kernel *kernel, kiln_kernel_info *info);

// Describes the operand at a place, from 0: lhs, rhs, those of post-ops in the problem's order, dst.
kiln_status kiln_kernel_operand(const kiln_kernel *kernel, size_t index, kiln_operand_info *info);

// Packs weights, given as the problem's right operand, for this kernel and all others that read theirs in the same order;
// calls check that. Nobody writes the weights meanwhile, nor what lies between them. `KILN_INVALID_ARGUMENT` if the kernel reads them in place: its `packed_bytes` is 0.
kiln_status kiln_kernel_pack_weights(const kiln_kernel *kernel,
                                     const kiln_tensor *weights,
                                     kiln_packed_weights **packed);

// Computes `dst`. Types, numbers of elements, alignment, overlap with `dst` and the number of tensors are checked. Large problems
// are divided among the runtime's threads, with the same result bit for bit. After a failure `dst` may be written in part.
kiln_status kiln_kernel_run(const kiln_kernel *kernel, const kiln_args *args);

// `kiln_kernel_run` on the calling thread alone.
kiln_status kiln_kernel_run_serial(const kiln_kernel *kernel, const kiln_args *args);

// Weights packed for a kernel: those of before, if a handle to them is left, else packed now, as by
// `kiln_kernel_pack_weights`. Threads that ask for the same at once share one packing.
//
// `id` says which weights these are: the caller gives the same number to the same values only, as long as a handle to them is
// left. The values are not looked at where the number is known.
kiln_status kiln_runtime_packed_weights(const kiln_runtime *runtime,
                                        const kiln_kernel *kernel,
                                        uint64_t id,
                                        const kiln_tensor *weights,
                                        kiln_packed_weights **packed);

// Another handle to the same weights.
kiln_status kiln_packed_weights_clone(const kiln_packed_weights *packed, kiln_packed_weights **clone);

// Frees a handle. The memory goes with the last one.
void kiln_packed_weights_free(kiln_packed_weights *packed);

// Their size in bytes; 0 of NULL.
size_t kiln_packed_weights_bytes(const kiln_packed_weights *packed);

// The family of the problems that `pattern` is the text of, with `?` for the free number: "ip f32 mb?ic768oc3072 +bias". `flags`
// is 0 or `KILN_CONSTANT_WEIGHTS`; `max` is the largest value, where code has to be made for it. Compiles the code that serves
// any value now.
kiln_status kiln_family_create(const kiln_runtime *runtime,
                               const char *pattern,
                               uint32_t flags,
                               uint64_t max,
                               kiln_family **family);

// Frees a family. No call of it may be running.
void kiln_family_free(kiln_family *family);

// Packs weights for all members. `KILN_INVALID_ARGUMENT` if they read them in place, as all do without `KILN_CONSTANT_WEIGHTS`.
kiln_status kiln_family_pack_weights(const kiln_family *family, const kiln_tensor *weights, kiln_packed_weights **packed);

// Computes `dst` of the member for `n`, at once: on exact code if there is some, else on code that serves any value. Exact code
// for values asked for often is compiled in the background. Checks what `kiln_kernel_run` checks.
kiln_status kiln_family_run(const kiln_family *family, uint64_t n, const kiln_args *args);

// Compiles problems for any target, and writes their kernels to a file for `kiln_options_add_pack`. The file is complete or not
// there. Runtimes find kernels by problem and flags. What names no `fpmath` is compiled as strict here; a runtime whose default is
// another looks for problems that name that.
//
// `target` is that of the runtimes: `kiln_runtime_target` of one on such a machine.
kiln_status kiln_pack_write(const char *file, const char *target, const kiln_request *requests, size_t count);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KILN_H */
