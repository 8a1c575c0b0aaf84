// Kiln's C API: kernels and networks, compiled for this machine and called safely. For C99 and later, and C++.
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
// Structs that begin with `struct_size` may get more fields at their end in later versions. The caller sets `struct_size` to the sizeof of
// the struct, and zero is the default of every field that it does not set: `kiln_args args = {.struct_size = sizeof args};`. The library
// reads and writes as many fields as both it and the caller know, and refuses a field that is set and that it does not know. All other
// structs, which are in arrays or in other structs, stay as they are. Functions, and values of enumerations, are only added: a status that
// a program does not know is a failure.
//
// Functions that the program passes return: no exception and no longjmp leaves them.
//
// Undefined behaviour, since it cannot be noticed: a handle that was freed, or that is not one; memory that is shorter than said,
// or that somebody writes during the call; a string without its end.
//
// Strings are UTF-8; paths are any bytes. KILN_OUT_OF_MEMORY is returned when there is no memory for code, packed weights or scratch
// memory; without memory for anything smaller the process ends.

// The weights of a request stay the same over many calls and may be packed before them.
#define KILN_CONSTANT_WEIGHTS 1

// The result of a function.
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
  // A file cannot be read or written, or a pack cannot be used; with strict settings, any notice.
  KILN_FILE = 7,
  // Threads could not be started, or did not do their work.
  KILN_THREADS = 8,
  // A defect of the compiler, noticed by itself.
  KILN_INTERNAL = 9,
  // A defect of the library. What the call was to write may be written in part; handles remain valid.
  KILN_PANIC = 10,
  // The file is no network, its graph is malformed, or it does not go with the sizes that the caller asks for.
  KILN_INVALID_NETWORK = 11,
} kiln_status;

// The role of an operand.
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

// The type of a tensor's elements. Kernels have `KILN_F32`, `KILN_BF16`, `KILN_F16`, `KILN_I8`, `KILN_U8` and `KILN_I32`; networks may take and give any.
typedef enum {
  // `float`.
  KILN_F32 = 1,
  // bfloat16, the upper half of a `float`, as `uint16_t`.
  KILN_BF16 = 2,
  // IEEE 754 binary16, as `uint16_t`.
  KILN_F16 = 3,
  // `double`.
  KILN_F64 = 4,
  // `int8_t`.
  KILN_I8 = 5,
  // `uint8_t`.
  KILN_U8 = 6,
  // `int16_t`.
  KILN_I16 = 7,
  // `uint16_t`.
  KILN_U16 = 8,
  // `int32_t`.
  KILN_I32 = 9,
  // `uint32_t`.
  KILN_U32 = 10,
  // `int64_t`.
  KILN_I64 = 11,
  // `uint64_t`.
  KILN_U64 = 12,
  // 0 or 1, as `uint8_t`.
  KILN_BOOL = 13,
} kiln_dtype;

// Problems that differ in one number, such as how many rows there are.
typedef struct kiln_family kiln_family;

// Machine code for one problem, and what a call of it needs.
typedef struct kiln_kernel kiln_kernel;

// A compiled network with its weights, for fixed sizes.
typedef struct kiln_network kiln_network;

// The sizes that a network is compiled for, and how it is loaded. What is not set is as the file says. Used by one thread at a time.
typedef struct kiln_network_options kiln_network_options;

// Options of a runtime. What is not set comes from the environment, then from a default. Used by one thread at a time.
typedef struct kiln_options kiln_options;

// Constant weights in the order in which kernels read them.
typedef struct kiln_packed_weights kiln_packed_weights;

// Compiles problems once and keeps their kernels.
typedef struct kiln_runtime kiln_runtime;

// A function of the program's own that is told of something.
typedef struct {
  // The size of this struct, which the caller sets.
  size_t struct_size;
  // Is passed to the functions.
  void *context;
  // Is called with each text, which is valid during the call and has no end of line. Any threads call it, several at once too. It
  // does not call the runtime that it listens to.
  void (*tell)(void *context, const char *text);
  // Is called once, when nothing uses the listener any more, on whatever thread that is; may be NULL.
  void (*release)(void *context);
} kiln_listener;

// A part of a call, which an executor calls with the `work` that it got and a number.
typedef void (*kiln_work)(const void *work, size_t number);

// Threads of the program's own, which do the work of calls.
typedef struct {
  // The size of this struct, which the caller sets.
  size_t struct_size;
  // The number of threads that calls may be divided among, from 1 to 1024.
  size_t threads;
  // Is passed to the functions.
  void *context;
  // Calls `part(work, number)` once with each number below `count`, on any threads, the calling one perhaps among them, at once or one
  // after the other, and returns when all calls have returned. Several threads may call it at once. The calling thread may be one of the
  // executor's, in a call of this function too: it must not wait for a thread that waits for it.
  void (*run)(void *context, size_t count, kiln_work part, const void *work);
  // Is called once, when nothing uses the executor any more, on whatever thread that is; may be NULL.
  void (*release)(void *context);
} kiln_executor;

// A kernel that is wanted.
typedef struct {
  // The problem, such as "ip f32 mb8ic64oc96 +bias+gelu_erf".
  const char *problem;
  // 0 or `KILN_CONSTANT_WEIGHTS`.
  uint32_t flags;
} kiln_request;

// Counters of a runtime, each group read at one moment.
typedef struct {
  // The size of this struct, which the caller sets.
  size_t struct_size;
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
  uint64_t from_files;
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
  // The number of times that weights were packed so far. Those that were found, or came from a file, do not count.
  uint64_t packings;
} kiln_stats;

// Facts about a kernel.
typedef struct {
  // The size of this struct, which the caller sets.
  size_t struct_size;
  // The canonical text of the problem. It names the runtime's `fpmath` where the problem named none and the runtime's is not
  // strict. Valid as long as the handle.
  const char *problem;
  // Machine code, in bytes.
  size_t code_bytes;
  // Independent tasks that a call may be divided into.
  uint64_t tasks;
  // Temporary memory of each thread in a call, in bytes.
  size_t scratch_bytes;
  // The size of weights packed for this kernel, in bytes; 0 if it reads them in place and takes no packed ones.
  size_t packed_bytes;
  // Operands, which `kiln_kernel_operand` describes.
  size_t operands;
  // The predicted speed on one thread, as a fraction of what the target's arithmetic and memory allow.
  double predicted_fraction;
} kiln_kernel_info;

// Facts about an operand.
typedef struct {
  // The size of this struct, which the caller sets.
  size_t struct_size;
  // Its name in messages, such as "lhs" or "bias". Valid as long as the kernel's handle.
  const char *name;
  // Its description.
  kiln_role role;
  // The type of its elements.
  kiln_dtype dtype;
  // The number of elements of a tensor. Where it has strides: from the first to one past the last, gaps included.
  size_t elements;
  // The number of its dimensions.
  size_t rank;
  // Its dimensions, in the problem's order. Valid as long as the kernel's handle.
  const uint64_t *shape;
  // Elements between neighbours along each dimension. Valid as long as the kernel's handle.
  const uint64_t *strides;
} kiln_operand_info;

// A tensor that a call reads: of a kernel, in the memory order that its operand has in the problem; of a network, dense and row-major.
typedef struct {
  // The elements, aligned for their type. Two inputs may overlap.
  const void *data;
  // A `kiln_dtype`.
  uint32_t dtype;
  // The number of elements. Of an operand with strides: from the first to the last at least, gaps between them included.
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
  // The number of elements, as of a `kiln_tensor`.
  size_t elements;
} kiln_tensor_mut;

// The tensors of one call.
typedef struct {
  // The size of this struct, which the caller sets.
  size_t struct_size;
  // The source.
  kiln_tensor lhs;
  // The weights, if they are not packed; else all zero.
  kiln_tensor rhs;
  // The weights, if the kernel takes packed ones; else NULL.
  const kiln_packed_weights *packed;
  // The tensors of the post-ops that read one, in the problem's order; NULL if there are none.
  const kiln_post_tensor *post;
  // Their number.
  size_t post_count;
  // The result. Overwritten, or added to where the problem has `beta=1`. Overlaps nothing else of the call.
  kiln_tensor_mut dst;
} kiln_args;

// Facts about a network.
typedef struct {
  // The size of this struct, which the caller sets.
  size_t struct_size;
  // Inputs, which `kiln_network_input` describes.
  size_t inputs;
  // Outputs, which `kiln_network_output` describes.
  size_t outputs;
  // Steps of a call.
  size_t steps;
  // Kernels that it runs, each counted once.
  size_t kernels;
  // Memory for all values of a call, in bytes. Each of several calls at once has as much; it is kept for the next ones.
  size_t arena_bytes;
  // Weights as kernels read them, in bytes.
  size_t packed_bytes;
  // Constants that are read as they are, in bytes.
  size_t constant_bytes;
  // Machine code, in bytes.
  size_t code_bytes;
  // Weights that are packed.
  size_t packed_weights;
  // Of these, weights that came from the file of `kiln_network_options_set_weights`.
  size_t loaded_weights;
} kiln_network_info;

// Facts about an input or an output of a network.
typedef struct {
  // The size of this struct, which the caller sets.
  size_t struct_size;
  // Its name. Valid as long as a handle to the network.
  const char *name;
  // The type of its elements.
  kiln_dtype dtype;
  // The number of its elements; 0 if one of its dimensions is 0.
  size_t elements;
  // Its size in bytes.
  size_t bytes;
  // The number of its dimensions; 0 of a scalar.
  size_t rank;
  // Its dimensions, outermost first. Valid as long as a handle to the network.
  const uint64_t *shape;
} kiln_value_info;

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
// `OMP_NUM_THREADS` or `RAYON_NUM_THREADS`, else as many as the process may use, divided by the number of streams.
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

// The target to compile for, such as "neoverse-v1" or "x86-64-v3", which this machine must be able to run. Unless set, what is
// detected, limited by `KILN_MAX_CPU_ISA`.
kiln_status kiln_options_set_target(kiln_options *options, const char *target);

// Adds a pack, from which kernels are taken instead of compiling them. Packs are asked in the order they are added. One that
// cannot be used is no error of the runtime unless settings are strict: `kiln_runtime_pack_status` says why, and a notice.
//
// The code in the file is executed: it is undefined behaviour if anything but `kiln_pack_write`, `kiln pack build` or `kiln model` made
// it. Nobody whom the program does not trust may be able to change it until the runtime is created.
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

// The events that lines are written about to standard output, in the words of `KILN_VERBOSE`, which holds unless set: "none", "error",
// "warn", "profile_create", "profile_exec", "profile", "dispatch", "all", or several with commas. Looked at when the runtime is made.
kiln_status kiln_options_set_verbose(kiln_options *options,
                                     const char *words);

// Where the lines of `kiln_options_set_verbose` or `KILN_VERBOSE` go instead of to standard output. The listener is copied. After a
// failure it is not released.
kiln_status kiln_options_set_verbose_listener(kiln_options *options, const kiln_listener *listener);

// Is told of each notice as it comes, with the text that `kiln_runtime_notice` has for it. The listener is copied. After a failure it is
// not released.
kiln_status kiln_options_set_notice_listener(kiln_options *options,
                                             const kiln_listener *listener);

// Threads of the program's own, which large problems are divided among instead of the runtime's: `kiln_options_set_threads` and this
// function replace what the other said, and streams and spin have no effect. The executor is copied. After a failure it is not
// released.
kiln_status kiln_options_set_executor(kiln_options *options,
                                      const kiln_executor *executor);

// A directory to which each kernel's code and listing are written. Unless set, `KILN_JIT_DUMP`, else none.
kiln_status kiln_options_set_jit_dump(kiln_options *options, const char *folder);

// Where perf is told of kernels: 2 for a perf map, 4 for a jitdump, 6 for both, 0 for neither. Unless set, `KILN_JIT_PROFILE`, else 0.
// Looked at when the runtime is made.
kiln_status kiln_options_set_jit_profile(kiln_options *options,
                                         uint32_t bits);

// Makes a runtime. `options` may be NULL: none is set.
kiln_status kiln_runtime_create(const kiln_options *options, kiln_runtime **runtime);

// Another handle to the same runtime.
kiln_status kiln_runtime_clone(const kiln_runtime *runtime, kiln_runtime **clone);

// Frees a handle. With the last one to a runtime, its kernels, its families and its networks, the runtime goes. The threads that calls
// were divided among have ended then; the one that compiles for families ends soon.
void kiln_runtime_free(kiln_runtime *runtime);

// Threads that large problems are divided among; 0 of NULL.
size_t kiln_runtime_threads(const kiln_runtime *runtime);

// The target that the runtime compiles for, as `kiln_options_set_target` and `kiln_pack_write` take it. Valid as long as the handle; NULL
// of NULL.
const char *kiln_runtime_target(const kiln_runtime *runtime);

// Succeeds if the pack that was added at this place, from 0, is used; `KILN_FILE` if it is not, and the message says why.
kiln_status kiln_runtime_pack_status(const kiln_runtime *runtime, size_t index);

// The number of notices so far: of settings that cannot be followed, and files that are not used. 0 of NULL. Threads that make
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

// Starts the runtime's own threads again in a process that was forked off: there, only the thread that forked goes on, and calls would be
// done on the calling thread alone. Called before others use the runtime in the new process.
kiln_status kiln_runtime_renew_threads(const kiln_runtime *runtime);

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

// Computes `dst`. Types, numbers of elements, alignment, overlap with `dst` and the number of tensors are checked. Large problems
// are divided among the runtime's threads, with the same result bit for bit. After a failure `dst` may be written in part.
kiln_status kiln_kernel_run(const kiln_kernel *kernel, const kiln_args *args);

// `kiln_kernel_run` on the calling thread alone.
kiln_status kiln_kernel_run_serial(const kiln_kernel *kernel, const kiln_args *args);

// Another handle to the same weights.
kiln_status kiln_packed_weights_clone(const kiln_packed_weights *packed, kiln_packed_weights **clone);

// Frees a handle. The memory goes with the last one.
void kiln_packed_weights_free(kiln_packed_weights *packed);

// Their size in bytes; 0 of NULL.
size_t kiln_packed_weights_bytes(const kiln_packed_weights *packed);

// Packs weights, given as the problem's right operand, for this kernel and all others that read theirs in the same order;
// calls check that. Nobody writes the weights meanwhile, nor what lies between them. `KILN_INVALID_ARGUMENT` if the kernel reads them in
// place: its `packed_bytes` is 0.
kiln_status kiln_kernel_pack_weights(const kiln_kernel *kernel,
                                     const kiln_tensor *weights,
                                     kiln_packed_weights **packed);

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

// Makes options of which none is set.
kiln_status kiln_network_options_create(kiln_network_options **options);

// Frees options. Networks made with them are not concerned.
void kiln_network_options_free(kiln_network_options *options);

// Images or sequences at once. In ONNX files, the size of open dimensions whose name has "batch" in it, and of first dimensions without
// a name of their own. Unless set, 1 of networks that are no ONNX file.
kiln_status kiln_network_options_set_batch(kiln_network_options *options,
                                           uint64_t size);

// Tokens of each sequence. In ONNX files, the size of open dimensions whose name has "seq" in it, and of second dimensions of matrices
// of tokens without a name of their own. Unless set, 128, or the most that the network takes, of networks that are no ONNX file.
kiln_status kiln_network_options_set_sequence(kiln_network_options *options,
                                              uint64_t length);

// The size of a dimension that an ONNX file leaves open, by the name that it has there.
kiln_status kiln_network_options_set_dim(kiln_network_options *options, const char *name, uint64_t size);

// The shape of an input of an ONNX file.
kiln_status kiln_network_options_set_shape(kiln_network_options *options, const char *input, const uint64_t *shape, size_t rank);

// The elements that an input of an ONNX file will have, for networks that compute shapes from them. They are copied. The input remains
// one: calls pass the same elements.
kiln_status kiln_network_options_set_value(kiln_network_options *options,
                                           const char *input,
                                           const kiln_tensor *value,
                                           const uint64_t *shape,
                                           size_t rank);

// If not 0, ONNX files and those with weights beside them are mapped: nothing of them is copied, and what is never used is never read. As
// long as the network is there, it is undefined behaviour if somebody writes to one of the files or cuts it off. Unless set, 0: files are
// read into memory.
kiln_status kiln_network_options_set_mapped(kiln_network_options *options,
                                            int32_t mapped);

// A file of `kiln_network_write_weights`, or of `kiln model pack`, with weights that are packed already. Those that it does not have are
// packed. It is looked at when a network is made: one that cannot be read is `KILN_FILE`.
kiln_status kiln_network_options_set_weights(kiln_network_options *options,
                                             const char *file);

// Compiles a network of an ONNX file; or of a folder with a `model.onnx`, or with a `config.json` and a `model.safetensors` as Hugging
// Face lays them out. `options` may be NULL: none is set. Arithmetic, threads and limits are those of the runtime.
//
// Nothing in a file is trusted: one that is malformed is `KILN_INVALID_NETWORK`, one that needs what Kiln does not have
// `KILN_UNSUPPORTED`, and one that leaves sizes open `KILN_INVALID_ARGUMENT` with a message that names them.
kiln_status kiln_network_open(const kiln_runtime *runtime,
                              const char *file,
                              const kiln_network_options *options,
                              kiln_network **network);

// Compiles a network of the bytes of an ONNX file, which are copied. Weights are in the file itself. Else as `kiln_network_open`.
kiln_status kiln_network_parse(const kiln_runtime *runtime,
                               const void *bytes,
                               size_t size,
                               const kiln_network_options *options,
                               kiln_network **network);

// Compiles a built-in network: "resnet50", "bert", "distilbert", or another that `kiln model bench --help` names. Its weights are
// pseudo-random, the same each time. Else as `kiln_network_open`.
kiln_status kiln_network_built_in(const kiln_runtime *runtime,
                                  const char *name,
                                  const kiln_network_options *options,
                                  kiln_network **network);

// Another handle to the same network.
kiln_status kiln_network_clone(const kiln_network *network, kiln_network **clone);

// Frees a handle. The network goes with the last one.
void kiln_network_free(kiln_network *network);

// Describes a network.
kiln_status kiln_network_describe(const kiln_network *network, kiln_network_info *info);

// Describes the input at a place, from 0, in calling order.
kiln_status kiln_network_input(const kiln_network *network, size_t index, kiln_value_info *info);

// Describes the output at a place, from 0.
kiln_status kiln_network_output(const kiln_network *network, size_t index, kiln_value_info *info);

// Computes the outputs, where the caller wants them. There are as many tensors as the network has inputs and outputs, in their order.
// Types, numbers of elements, alignment and overlap of outputs with all else are checked before anything is written. After any other
// failure outputs may be written in part.
//
// Several threads may run a network at once: each call has memory of its own.
kiln_status kiln_network_run(const kiln_network *network,
                             const kiln_tensor *inputs,
                             size_t input_count,
                             const kiln_tensor_mut *outputs,
                             size_t output_count);

// Writes the packed weights to a file for `kiln_network_options_set_weights`. The file is complete or not there.
kiln_status kiln_network_write_weights(const kiln_network *network, const char *file);

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
