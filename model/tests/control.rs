//! Branches and loops of compiled networks: results are the interpreter's, on any number of threads, call after call.

use kiln_ir::Func;
use kiln_jit::Runtime;
use kiln_model::{Bound, ElementType, Flexible, ModelError, OpenDim, Tensor, TensorType};

fn ints(ty: &TensorType, seed: u64) -> Tensor {
    let mut state = seed | 1;
    let values: Vec<f64> = (0..ty.elements())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) % 5) as f64 - 2.0
        })
        .collect();
    Tensor::from_f64(ty.clone(), &values)
}

/// Compares with the interpreter, exactly: data are small integers.
fn agrees(text: &str, set: impl Fn(&str, Tensor) -> Tensor) {
    let func: Func = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    for threads in [1, 3] {
        let runtime = Runtime::builder().threads(threads).build().unwrap();
        let network = Bound::from_func(func.clone()).compile(&runtime).unwrap();
        for seed in 0..3 {
            let arguments = func.arguments().map(|(id, v)| set(&v.name, ints(&v.ty, seed * 97 + id.index() as u64)));
            let arguments: Vec<Tensor> = arguments.collect();
            let data: Vec<Vec<f64>> = arguments.iter().map(Tensor::to_f64).collect();
            let expected = func.interpret_f64(&data.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
            let found: Vec<Vec<f64>> = network.run(&arguments).unwrap().iter().map(Tensor::to_f64).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}

fn boolean(value: bool) -> Tensor {
    Tensor::from_f64(TensorType::new(ElementType::Bool, []).unwrap(), &[f64::from(u8::from(value))])
}

#[test]
fn branches_give_what_they_are_given_and_what_they_compute() {
    let text = "func @f(%c: bool[], %x: f32[5x7], %y: f32[5x7]) -> f32[5x7], f32[5x7], f32[5x7], i64[] {
        %s = add %x, %y
        %a = if %c, %s, %x, %y {
            then=func @t(%s: f32[5x7], %x: f32[5x7], %y: f32[5x7]) -> f32[5x7], f32[5x7], i64[] {
                %0 = constant i64[] {7}
                return %y, %x, %0
            }
            otherwise=func @e(%s: f32[5x7], %x: f32[5x7], %y: f32[5x7]) -> f32[5x7], f32[5x7], i64[] {
                %w = constant f32[7x7] {1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
                    2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}
                %0 = matmul %s, %w
                %1 = mul %0, %x
                %2 = constant i64[] {-3}
                return %1, %s, %2
            }
        }
        %b = output %a {index=1 ty=f32[5x7]}
        %n = output %a {index=2 ty=i64[]}
        %r = sub %a, %b
        return %r, %b, %s, %n
    }";
    for c in [true, false] {
        agrees(text, |name, tensor| if name == "c" { boolean(c) } else { tensor });
    }
}

#[test]
fn loops_have_states_that_change_places_and_slices_both_ways() {
    let text = "func @f(%a: f32[3x4], %b: f32[3x4], %x: f32[6x3x4], %k: f32[3x1]) -> f32[3x4], f32[3x4], f32[6x3x4], f32[6x3x4], i64[6] {
        %p = scan %a, %b, %x, %x, %k {trips=6 states=2 backward=[0,1,1,0,0]
            body=func @body(%i: i64[], %a: f32[3x4], %b: f32[3x4], %x: f32[3x4], %y: f32[3x4], %k: f32[3x1]) ->
                f32[3x4], f32[3x4], f32[3x4], f32[3x4], i64[] {
                %0 = add %x, %y
                %1 = mul %0, %k
                %2 = min %1, %a
                return %b, %2, %1, %x, %i
            }
        }
        %q = output %p {index=1 ty=f32[3x4]}
        %r = output %p {index=2 ty=f32[6x3x4]}
        %s = output %p {index=3 ty=f32[6x3x4]}
        %t = output %p {index=4 ty=i64[6]}
        return %p, %q, %r, %s, %t
    }";
    agrees(text, |_, tensor| tensor);
}

#[test]
fn loops_in_loops_and_branches_share_weights_and_memory() {
    let text = "func @f(%h: f32[2x3], %x: f32[4x2x3], %c: bool[4]) -> f32[2x3] {
        %y = scan %h, %x, %c {trips=4 states=1 backward=[0,0]
            body=func @outer(%i: i64[], %h: f32[2x3], %x: f32[2x3], %c: bool[]) -> f32[2x3] {
                %w = constant f32[3x3] {0, 1, 0, 0, 0, 1, 1, 0, 0}
                %0 = if %c, %h, %x {
                    then=func @t(%h: f32[2x3], %x: f32[2x3]) -> f32[2x3] {
                        %w = constant f32[3x3] {0, 1, 0, 0, 0, 1, 1, 0, 0}
                        %0 = scan %h, %x {trips=3 states=1 backward=[]
                            body=func @inner(%i: i64[], %h: f32[2x3], %x: f32[2x3]) -> f32[2x3] {
                                %w = constant f32[3x3] {0, 1, 0, 0, 0, 1, 1, 0, 0}
                                %0 = matmul %h, %w
                                %1 = add %0, %x
                                return %1
                            }}
                        %1 = matmul %0, %w
                        return %1
                    }
                    otherwise=func @e(%h: f32[2x3], %x: f32[2x3]) -> f32[2x3] { return %x }}
                %1 = matmul %0, %w
                return %1
            }
        }
        return %y
    }";
    agrees(text, |_, tensor| tensor);
    let func: Func = text.parse().unwrap();
    let network = Bound::from_func(func).compile(&Runtime::builder().threads(1).build().unwrap()).unwrap();
    // One kernel for all products, and one with the sum behind it.
    assert_eq!(network.kernels().len(), 2);
}

const COUNTS: &str = "func @f(%limit: i64[], %x: f32[3]) -> f32[3], i64[] {
    %go = constant bool[] {1}
    %zero = constant i64[] {0}
    %y = while %limit, %go, %x, %zero {states=2 body=func @body(%i: i64[], %x: f32[3], %n: i64[]) -> bool[], f32[3], i64[] {
        %0 = add %x, %x
        %one = constant i64[] {1}
        %n2 = add %n, %one
        %ten = constant i64[] {10}
        %on = less %n2, %ten
        return %on, %0, %n2
    }}
    %n = output %y {index=1 ty=i64[]}
    return %y, %n
}";

#[test]
fn loops_end_by_themselves_or_are_refused_when_they_do_not() {
    for limit in [0i64, 1, 7, 10, 11, i64::MAX, i64::MIN] {
        agrees(COUNTS, |name, tensor| if name == "limit" { Tensor::scalar(limit) } else { tensor });
    }
    let func: Func = COUNTS.replace("less %n2, %ten", "equal %ten, %ten").parse().unwrap();
    let network = Bound::from_func(func).compile(&Runtime::builder().threads(1).build().unwrap()).unwrap();
    let x = Tensor::from_elements([3], vec![0f32; 3]).unwrap();
    let error = network.run(&[Tensor::scalar(i64::MAX), x.clone()]).unwrap_err();
    assert!(matches!(&error, ModelError::Endless { layer, .. } if layer == "y"), "{error}");
    assert!(network.run(&[Tensor::scalar(4i64), x]).is_ok());
}

#[test]
fn networks_of_any_length_have_no_loops() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let error = Flexible::compile(&runtime, &[OpenDim::named("length", 1..=16)], |sizes| {
        let text = COUNTS.replace("f32[3]", &format!("f32[{}]", sizes[0]));
        Ok(Bound::from_func(text.parse().unwrap()))
    });
    let message = error.unwrap_err().to_string();
    assert!(message.contains("`y`: it is a branch or a loop"), "{message}");
}
