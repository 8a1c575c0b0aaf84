//! Packs of kernels.

use std::ffi::c_char;

use ::kiln_jit::{Package, Target, pack};
use kiln_compiler::compile;

use crate::error::{Error, guard, kiln_status};
use crate::pointers::{array, path, text};
use crate::runtime::kiln_request;

/// Compiles problems for any target, and writes their kernels to a file for `kiln_options_add_pack`. The file is complete or not
/// there. Runtimes find kernels by problem and flags. What names no `fpmath` is compiled as strict here; a runtime whose default is
/// another looks for problems that name that.
///
/// `target` is that of the runtimes: `kiln_runtime_target` of one on such a machine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kiln_pack_write(
    file: *const c_char,
    target: *const c_char,
    requests: *const kiln_request,
    count: usize,
) -> kiln_status {
    guard(|| {
        // SAFETY: the header's rules.
        let (file, target) = unsafe { (path(file, "file")?, text(target, "target")?) };
        // SAFETY: the header's rules.
        let requests = unsafe { array(requests, count, "requests")? };
        let target: Target = target.parse().map_err(|e| Error::argument("target", e))?;
        let mut packages = vec![];
        for (place, request) in requests.iter().enumerate() {
            // SAFETY: the header's rules.
            let package = unsafe { request.read() }.and_then(|(problem, options)| {
                let artifact = compile(&problem, &target, &options).map_err(|e| Error::from(&e))?;
                Ok(Package::of(&artifact, &options))
            });
            packages.push(package.map_err(|e| Error::new(e.status, format!("request {place}: {}", e.message)))?);
        }
        pack::write(file, &target, &packages)
            .map_err(|e| Error::new(kiln_status::KILN_FILE, format!("{}: {e}", file.display())))
    })
}
