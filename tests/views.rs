//! Arguments as `ndarray` views: shapes, transposed views, and what does not fit.

use kiln_runtime::{Args, Problem, Runtime};
use ndarray::{Array, Array1, Array2, s};

fn numbers(rows: usize, columns: usize) -> Array2<f32> {
    Array::from_shape_fn((rows, columns), |(i, j)| ((3 * i + 5 * j) % 7) as f32 - 3.0)
}

#[test]
fn views_are_arguments() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let problem: Problem = "matmul f32 5x6:6x7 +bias+add:ab".parse().unwrap();
    let (lhs, rhs, add) = (numbers(5, 6), numbers(6, 7), numbers(5, 7));
    let bias = Array1::from_iter((0..7).map(|i| i as f32));
    let mut dst = Array2::<f32>::zeros((5, 7));
    let args = Args::of_views(&problem, lhs.view(), rhs.view(), dst.view_mut()).unwrap();
    let args = args.operand_view(&problem, bias.view()).unwrap().operand_view(&problem, add.view()).unwrap();
    runtime.kernel(&problem).unwrap().run(args).unwrap();
    assert_eq!(dst, lhs.dot(&rhs) + &bias + &add);
}

/// A transposed view is an operand with the other tag, without a copy.
#[test]
fn strides_are_tags() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let (lhs, rhs) = (numbers(6, 5), numbers(7, 6));
    let mut dst = Array2::<f32>::zeros((7, 5));
    let transposed: Problem = "matmul f32 5x6:6x7 stag=ba wtag=ba dtag=ba".parse().unwrap();
    let mut view = dst.view_mut();
    view.swap_axes(0, 1);
    let args = Args::of_views(&transposed, lhs.t(), rhs.t(), view).unwrap();
    runtime.kernel(&transposed).unwrap().run(args).unwrap();
    assert_eq!(dst.t(), lhs.t().dot(&rhs.t()));

    let plain: Problem = "matmul f32 5x6:6x7".parse().unwrap();
    let mut out = Array2::<f32>::zeros((5, 7));
    let e = Args::of_views(&plain, lhs.t(), numbers(6, 7).view(), out.view_mut()).map(drop).unwrap_err();
    let message = "argument `lhs`: expected [5, 6] with strides [6, 1] (`ab`), got [5, 6] with strides [1, 5]";
    assert_eq!(e.to_string(), message);
    let wide = numbers(5, 8);
    let part = wide.slice(s![.., 1..7]);
    assert!(Args::of_views(&plain, part, numbers(6, 7).view(), out.view_mut()).is_err());
    let small = numbers(5, 5);
    let e = Args::of_views(&plain, small.view(), numbers(6, 7).view(), out.view_mut()).map(drop).unwrap_err();
    assert!(e.to_string().contains("got [5, 5]"), "{e}");
}

#[test]
fn one_tensor_too_many_is_an_error_of_the_call() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let problem: Problem = "matmul f32 2x3:3x4 +relu".parse().unwrap();
    let (lhs, rhs, mut dst) = (numbers(2, 3), numbers(3, 4), Array2::<f32>::zeros((2, 4)));
    let args = Args::of_views(&problem, lhs.view(), rhs.view(), dst.view_mut()).unwrap();
    let args = args.operand_view(&problem, rhs.view()).unwrap();
    assert!(runtime.kernel(&problem).unwrap().run(args).unwrap_err().to_string().contains("`operand`"));
}
