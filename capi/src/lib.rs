//! Kiln's C API. `kiln.h` is made from these files by `cargo xtask header`; its readers see the comments on public items.
//!
//! Every entry goes through [`error::guard`] or [`error::or_default`]: no panic leaves, and errors are kept for the thread that
//! made them. What C passes is looked at only after [`pointers`] or [`tensor`] have checked what can be checked. Enumerations
//! that C passes are numbers here: one without a name would be undefined behaviour as an `enum`.

// The names are C's.
#![allow(non_camel_case_types)]
// The safety of all functions is that of the header, which says it once; a section names what is particular to one.
#![allow(clippy::missing_safety_doc)]

// The header has the order of these.
mod version;

mod error;

mod listener;

mod executor;

mod options;

mod runtime;

mod tensor;

mod kernel;

mod weights;

mod packing;

mod family;

mod network;

mod pack;

// Nothing that C sees.
mod pointers;
mod strings;
