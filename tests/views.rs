//! Arguments as `ndarray` views: shapes, transposed views, and what does not fit.

use kiln_jit::{Args, MathMode, Options, PostOp, Problem, Runtime, RuntimeError, views};
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
    let args = args.post_op_view(&problem, bias.view()).unwrap().post_op_view(&problem, add.view()).unwrap();
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

/// Parts of arrays are read and written where they are, by the problem that their strides make.
#[test]
fn parts_of_arrays_are_arguments() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let (a, b) = (numbers(20, 30), numbers(40, 25));
    let mut c = Array2::<f32>::from_elem((16, 31), 9.0);
    let add = numbers(8, 11);
    // Every second row and third column; a transposed part; columns in the middle.
    let (lhs, rhs) = (a.slice(s![2..18;2, 1..;3]), b.slice(s![3..14, 5..15]));
    let rhs = rhs.t();
    let mut dst = c.slice_mut(s![4..12, 10..21]);
    let problem =
        views::matmul(&lhs, &rhs, &dst.view()).unwrap().bias().epilogue([PostOp::Add(mask("ab"))]).build().unwrap();
    assert_eq!(problem.to_string(), "matmul f32 8x10:10x11 strides=60x3:1x25:31x1 +bias+add:ab");
    let bias = Array1::from_iter((0..11).map(|i| i as f32));
    let kernel = runtime.kernel(&problem).unwrap();
    let args = Args::of_views(&problem, lhs, rhs, dst.view_mut()).unwrap();
    let args = args.post_op_view(&problem, bias.view()).unwrap().post_op_view(&problem, add.view()).unwrap();
    kernel.run(args).unwrap();
    assert_eq!(dst, lhs.dot(&rhs) + &bias + &add);
    let inside = |i, j| (4..12).contains(&i) && (10..21).contains(&j);
    assert!(c.indexed_iter().all(|((i, j), v)| inside(i, j) || *v == 9.0), "what is beside the view stays");

    // The same problem for other parts, and what does not fit it.
    let again = Args::of_views(
        &problem,
        a.slice(s![4..20;2, ..;3]),
        b.slice(s![..11, ..10]).reversed_axes(),
        c.slice_mut(s![..8, ..11]),
    );
    assert!(again.is_ok());
    let e = Args::of_views(&problem, a.slice(s![..8, ..10]), rhs, c.slice_mut(s![..8, ..11])).map(drop).unwrap_err();
    assert_eq!(
        e.to_string(),
        "argument `lhs`: expected [8, 10] with strides [60, 3], got [8, 10] with strides [30, 1]"
    );
    let narrow = numbers(8, 40);
    let part = narrow.slice(s![.., ..11]);
    let args = Args::of_views(&problem, lhs, rhs, c.slice_mut(s![..8, ..11])).unwrap();
    let e = args.post_op_view(&problem, bias.view()).unwrap().post_op_view(&problem, part).map(drop).unwrap_err();
    assert!(e.to_string().contains("argument `add`"), "{e}");
}

/// Weights that are packed once, between views with gaps.
#[test]
fn packed_weights_go_with_views() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    // Weights as a linear layer has them, an output channel after the other.
    let (a, b) = (numbers(64, 50), numbers(64, 48));
    let mut c = Array2::<f32>::from_elem((64, 70), 9.0);
    let lhs = a.slice(s![.., 1..49]);
    let problem = views::matmul(&lhs, &b.t(), &c.slice(s![.., 3..67])).unwrap().relu().build().unwrap();
    assert_eq!(problem.to_string(), "matmul f32 64x48:48x64 wtag=ba strides=50x1::70x1 +relu");
    let options = Options { constant_weights: true, ..Options::default() };
    let kernel = runtime.kernel_with(&problem, &options).unwrap();
    let packed = kernel.pack_weights(b.as_slice().unwrap()).unwrap();
    kernel.run(Args::of_views_packed(&problem, lhs, &packed, c.slice_mut(s![.., 3..67])).unwrap()).unwrap();
    assert_eq!(c.slice(s![.., 3..67]), lhs.dot(&b.t()).mapv(|v| v.max(0.0)));
    assert!(c.indexed_iter().all(|((_, j), v)| (3..67).contains(&j) || *v == 9.0));
    // Weights of another layout, and a kernel that packs none.
    let plain = runtime.kernel(&problem).unwrap();
    let args = Args::of_views_packed(&problem, lhs, &packed, c.slice_mut(s![.., 3..67])).unwrap();
    assert!(plain.weights_layout().is_none() && plain.run(args).is_err());
}

/// Views with gaps are a kernel's only if it is of the problem that they were compared with: others would read their gaps.
#[test]
fn kernels_of_other_problems_refuse_views_with_gaps() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let (a, b) = (numbers(5, 9), numbers(6, 7));
    let (lhs, mut dst) = (a.slice(s![.., ..6]), Array2::<f32>::zeros((5, 7)));
    let problem = views::matmul(&lhs, &b.view(), &dst.view()).unwrap().build().unwrap();
    assert_eq!(problem.to_string(), "matmul f32 5x6:6x7 strides=9x1::");
    // As many elements to the last one, but others.
    for other in [
        "matmul f32 7x6:6x5 strides=6x1:7x1:5x1",
        "matmul f32 14x3:3x14 strides=3x1:3x1:",
        "matmul f32 5x6:6x7 strides=9x1:: +relu",
    ] {
        let kernel = runtime.kernel(&other.parse().unwrap()).unwrap();
        let args = Args::of_views(&problem, lhs, b.view(), dst.view_mut()).unwrap();
        let e = kernel.run(args).unwrap_err();
        assert!(matches!(e, RuntimeError::Argument { .. }) && e.to_string().contains(&problem.to_string()), "{e}");
    }
    // The arithmetic changes no place.
    for mode in [None, Some(MathMode::Strict), Some(MathMode::Bf16)] {
        let kernel = runtime.kernel(&problem.with_fpmath(mode)).unwrap();
        kernel.run(Args::of_views(&problem, lhs, b.view(), dst.view_mut()).unwrap()).unwrap();
    }
    assert_eq!(dst, lhs.dot(&b));
}

/// Axes in reverse order, broadcast ones and results that no kernel writes are refused by name.
#[test]
fn views_that_no_kernel_takes_are_refused() {
    let (a, b, c) = (numbers(5, 6), numbers(6, 7), Array2::<f32>::zeros((5, 14)));
    let error = |made: Result<kiln_ir::problem::Builder, RuntimeError>| match made.map(|builder| builder.build()) {
        Ok(built) => built.unwrap_err().to_string(),
        Err(e) => e.to_string(),
    };
    let dst = c.slice(s![.., ..7]);
    assert!(
        error(views::matmul(&a.slice(s![..;-1, ..]), &b.view(), &dst))
            .contains("`lhs`: expected strides that are positive")
    );
    let row = numbers(1, 6);
    assert!(
        error(views::matmul(&row.broadcast((5, 6)).unwrap(), &b.view(), &dst))
            .contains("lhs, `0x1`: the stride of dimension `a` is 0")
    );
    assert!(error(views::matmul(&a.view(), &b.slice(s![..5, ..]), &dst)).contains("`rhs`: expected 6 rows"));
    assert!(
        error(views::matmul(&a.view(), &b.view(), &c.slice(s![..4, ..7])))
            .contains("`dst`: expected a view of shape [5, 7]")
    );
    assert!(error(views::matmul(&a.view(), &b.view(), &c.slice(s![.., ..;2]))).contains("a stride of 1 along either"));
    let wide: Problem = "matmul f32 5x6:6x8 +relu".parse().unwrap();
    let e = views::with_strides(&wide, &a.view(), &b.view(), &dst).unwrap_err().to_string();
    assert!(e.contains("`rhs`: expected a view of shape [6, 8]"), "{e}");
}

/// Any operation: the strides of a problem are replaced by those of views.
#[test]
fn a_problem_takes_the_strides_of_views() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let conv: Problem = "conv f32 mb2ic3ih5oc4kh3ph1 stag=abx dtag=abx fpmath=strict +bias:b+relu".parse().unwrap();
    // Channels last, in the middle of more channels and wider images.
    let image = Array::from_shape_fn((2, 5, 8, 6), |(i, y, x, c)| ((5 * i + 3 * y + 2 * x + c) % 7) as f32 - 3.0);
    let weights = Array::from_shape_fn((4, 3, 3, 3), |(o, i, y, x)| ((o + 2 * i + 3 * y + x) % 5) as f32 - 2.0);
    let mut out = Array::<f32, _>::from_elem((2, 5, 5, 9), 77.0);
    let lhs = image.slice(s![.., .., 1..6, 2..5]).permuted_axes([0, 3, 1, 2]);
    let mut dst = out.slice_mut(s![.., .., .., 4..8]).permuted_axes([0, 3, 1, 2]);
    let problem = views::with_strides(&conv, &lhs, &weights.view(), &dst.view()).unwrap();
    let text = "conv f32 mb2ic3ih5oc4kh3ph1 strides=240x1x48x6::225x1x45x9 fpmath=strict +bias:b+relu";
    assert_eq!(problem.to_string(), text);
    let bias = Array1::from_iter([1.0, 0.0, -1.0, 2.0]);
    let args = Args::of_views(&problem, lhs, weights.view(), dst.view_mut()).unwrap();
    runtime.kernel(&problem).unwrap().run(args.post_op_view(&problem, bias.view()).unwrap()).unwrap();
    for (i, o, y, x) in [(0, 0, 0, 0), (1, 3, 4, 4), (1, 2, 2, 0), (0, 1, 3, 4)] {
        let mut sum = bias[o];
        for (c, ky, kx) in (0..27).map(|t| (t / 9, t / 3 % 3, t % 3)) {
            let (sy, sx) = (y + ky, x + kx);
            if (1..6).contains(&sy) && (1..6).contains(&sx) {
                sum += lhs[[i, c, sy - 1, sx - 1]] * weights[[o, c, ky, kx]];
            }
        }
        assert_eq!(dst[[i, o, y, x]], sum.max(0.0), "{:?}", (i, o, y, x));
    }
    assert!(out.indexed_iter().all(|((.., c), v)| (4..8).contains(&c) || *v == 77.0));
}

/// Two threads write the halves of each row of one array at once: no slice spans what the other writes.
#[test]
fn halves_of_rows_are_written_at_once() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let (a, b) = (numbers(64, 40), numbers(40, 96));
    let mut c = Array2::<f32>::zeros((64, 96));
    let (mut left, mut right) = c.view_mut().split_at(ndarray::Axis(1), 48);
    std::thread::scope(|scope| {
        for (dst, columns) in [(&mut left, 0..48), (&mut right, 48..96)] {
            let (runtime, a, b) = (&runtime, &a, &b);
            scope.spawn(move || {
                let rhs = b.slice(s![.., columns]);
                let problem = views::matmul(&a.view(), &rhs, &dst.view()).unwrap().build().unwrap();
                assert_eq!(problem.to_string(), "matmul f32 64x40:40x48 strides=:96x1:96x1");
                let kernel = runtime.kernel(&problem).unwrap();
                for _ in 0..50 {
                    kernel.run(Args::of_views(&problem, a.view(), rhs, dst.view_mut()).unwrap()).unwrap();
                }
            });
        }
    });
    assert_eq!(c, a.dot(&b));
}

fn mask(dims: &str) -> kiln_ir::epilogue::Mask {
    dims.parse().unwrap()
}

#[test]
fn one_tensor_too_many_is_an_error_of_the_call() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let problem: Problem = "matmul f32 2x3:3x4 +relu".parse().unwrap();
    let (lhs, rhs, mut dst) = (numbers(2, 3), numbers(3, 4), Array2::<f32>::zeros((2, 4)));
    let args = Args::of_views(&problem, lhs.view(), rhs.view(), dst.view_mut()).unwrap();
    let args = args.post_op_view(&problem, rhs.view()).unwrap();
    assert!(runtime.kernel(&problem).unwrap().run(args).unwrap_err().to_string().contains("`post_op`"));
}
