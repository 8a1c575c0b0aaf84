//! Functions of every operation as text.

use kiln_ir::func::{Control, ElementType, Func, FuncErrorKind, Real, SettingError, Structured, Tensor, TensorOp};

use super::cases::*;

/// A line of each operation, with all settings; operands are those of [`every_operation`].
const LINES: &str = "
    abs %x
    neg %x
    exp %x
    log %x
    sqrt %x
    reciprocal %x
    erf %x
    tanh %x
    sin %x
    cos %x
    tan %x
    asin %x
    acos %x
    atan %x
    sinh %x
    cosh %x
    asinh %x
    acosh %x
    atanh %x
    sigmoid %x
    relu %x
    leaky_relu %x {alpha=0.01}
    thresholded_relu %x {alpha=1}
    elu %x {alpha=1}
    selu %x {alpha=1.6732631921768188 gamma=1.0507010221481323}
    celu %x {alpha=1}
    softplus %x
    softsign %x
    hard_sigmoid %x {alpha=0.2 beta=0.5}
    hard_swish %x
    gelu_erf %x
    gelu_tanh %x
    silu %x
    mish %x
    floor %x
    ceil %x
    round %x
    sign %x
    not %m
    bit_not %i
    clamp %x {low=-inf high=6}
    add %x, %v
    sub %x, %v
    mul %x, %v
    div %x, %v
    rem %x, %v
    pow %x, %v
    max %x, %v
    min %x, %v
    prelu %x, %v
    equal %x, %v
    less %x, %v
    less_or_equal %x, %v
    greater %x, %v
    greater_or_equal %x, %v
    and %m, %m
    or %m, %m
    xor %m, %m
    bit_and %i, %i
    bit_or %i, %i
    bit_xor %i, %i
    shift_left %i, %i
    shift_right %i, %i
    cast %x {to=bf16}
    bit_cast %x {to=u32}
    where %m, %x, %v
    matmul %x, %x
    conv %p, %k {strides=[2,2] pads=[0,1,1,0] dilations=[1,1] groups=1 channels_last=false}
    conv_transpose %p, %k {strides=[2,2] pads=[0,0,0,0] dilations=[1,1] output_pads=[1,0] groups=1}
    columns_to_image %c {pixels=[2,2] taps=[2,1] strides=[1,2] pads=[0,1] dilations=[1,1] out=[3,2]}
    pool %p {kind=average_padded p=0 kernel=[2,2] strides=[1,1] pads=[0,0,0,0] dilations=[1,1] out=[2,2] channels_last=true}
    max_pool_indices %p {kernel=[2,2] strides=[1,1] pads=[0,0,0,0] dilations=[1,1] out=[2,2] column_major=true}
    reduce %x {kind=log_sum_exp axes=[0] keep=true}
    arg_reduce %x {max=true axis=1 keep=false last=true}
    cumsum %x {axis=0 exclusive=true reverse=false}
    cumprod %x {axis=1 exclusive=false reverse=true}
    top_k %x {k=2 axis=1 largest=true}
    det %x
    softmax %x {axis=1}
    masked_softmax %x {axis=1}
    log_softmax %x {axis=1}
    layer_norm %x, %v, %v {axis=1 epsilon=0.00001}
    rms_norm %x, %v {axis=1 epsilon=0.000001}
    batch_norm %x, %v, %v, %v, %v {epsilon=0.001 channels_last=false}
    lrn %p {size=5 alpha=0.0001 beta=0.75 bias=1}
    lstm_cell %q, %h
    gru_cell %u, %u, %h
    reshape %x {shape=[1,9]}
    transpose %x {perm=[1,0]}
    broadcast %v {shape=[2,3]}
    slice %x {starts=[0,2] steps=[1,-1] counts=[3,2]}
    concat %x, %x, %x {axis=0}
    pad %x {mode=constant before=[0,1] after=[1,0] value=-inf}
    gather %x, %i {axis=1}
    gather_elements %v, %i {axis=0}
    gather_nd %x, %i {batch=0}
    scatter_elements %v, %i, %w {axis=0 merge=add}
    scatter_nd %x, %i, %s {merge=replace}
    grid_sample %p, %g {sampling=cubic outside=reflection align_corners=true}
    roi_align %p, %r, %n {rows=2 columns=1 samples=0 scale=0.5 max=false half_pixel=true}
    kernel %x, %x, %v {problem=\"matmul f32 3x3:3x3 +bias\"}
";

/// The words of all operations but those that run functions, which have tests of their own.
fn names() -> Vec<&'static str> {
    TensorOp::names().filter(|word| !Control::NAMES.contains(word)).collect()
}

/// A function that returns what every operation gives.
fn every_operation() -> String {
    let lines: Vec<&str> = LINES.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let words: Vec<&str> = lines.iter().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(words, names());
    let arguments = "%x: f32[3x3], %v: f32[3], %m: bool[3x3], %p: f32[1x3x3x3], %k: f32[3x3x2x2], %i: i64[2], %c: f32[1x6x4], \
         %w: f32[2], %s: f32[], %g: f32[1x2x2x2], %r: f32[2x4], %n: i64[2], %q: f32[2x12], %u: f32[2x9], %h: f32[2x3]";
    // The types are those that the errors ask for, so that each operation is inferred once.
    let mut types = vec![];
    for line in &lines {
        let e = format!("func @f({arguments}) -> f64[] {{\n%0 = {line}\nreturn %0\n}}").parse::<Func>().unwrap_err();
        let message = e.to_string();
        let found = message.split(" is ").nth(1).and_then(|rest| rest.split(',').next());
        types.push(found.unwrap_or_else(|| panic!("{line}: {message}")).to_owned());
    }
    let lines: String = lines.iter().enumerate().map(|(i, line)| format!("  %{i} = {line}\n")).collect();
    let returned: Vec<_> = (0..types.len()).map(|i| format!("%{i}")).collect();
    format!("func @all({arguments}) -> {} {{\n{lines}  return {}\n}}\n", types.join(", "), returned.join(", "))
}

/// Each setting of each operation once more, wherever it may stand.
#[test]
fn settings_given_twice_are_refused() {
    let mut refused = 0;
    for line in LINES.lines().map(str::trim).filter(|line| line.ends_with('}')) {
        let (op, settings) = line.trim_end_matches('}').split_once(" {").unwrap();
        // A problem in quotes has blanks.
        let settings: Vec<&str> = if settings.contains('"') { vec![settings] } else { settings.split(' ').collect() };
        for (again, at) in settings.iter().flat_map(|again| (0..=settings.len()).map(move |at| (*again, at))) {
            let (name, _) = again.split_once('=').unwrap();
            let mut twice = settings.clone();
            twice.insert(at, again);
            let text =
                format!("func @f(%x: f32[3x3]) -> f32[3x3] {{\n  %0 = {op} {{{}}}\n  return %0\n}}", twice.join(" "));
            let text = ["%v", "%m", "%p", "%k", "%i", "%c", "%w", "%s", "%g", "%r", "%n"]
                .iter()
                .fold(text, |text, v| text.replace(v, "%x"));
            let e = text.parse::<Func>().unwrap_err();
            let is_named = |e: &FuncErrorKind| matches!(e, FuncErrorKind::Setting(SettingError::Repeated { name: n, .. }) if n == name);
            assert!(is_named(&e.kind) && e.to_string().contains(&format!("`{name}` is given twice")), "{text}: {e}");
            refused += 1;
        }
    }
    assert!(refused > 200, "{refused}");
    let text = "func @f(%x: f32[3x3]) -> f32[3x3] {\n  %0 = kernel %x, %x {problem=\"matmul f32 3x3:3x3 beta=0 beta=0\"}\n  return %0\n}";
    assert!(text.parse::<Func>().unwrap_err().to_string().contains("`beta` is given twice"));
}

#[test]
fn every_operation_is_read_again() {
    let text = every_operation();
    let func: Func = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(func.to_string(), text);
    assert_eq!(func.results().len(), names().len());
    let data: Vec<Vec<f64>> = func.arguments().map(|(_, v)| vec![1.0; v.ty.elements() as usize]).collect();
    let results = func.interpret_f64(&data.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    for (values, id) in results.iter().zip(func.results()) {
        assert_eq!(values.len() as u64, func.value(*id).ty.elements(), "{}", func.statement(*id));
    }
}

#[test]
fn settings_are_checked() {
    let x = [count(&[2])];
    for (line, message) in [
        ("softmax %a", "`softmax` lacks its setting `axis`: a number from 0"),
        ("softmax %a {axis=1 axis=1}", "`softmax`: the setting `axis` is given twice"),
        ("softmax %a {axis=0 base=2}", "`softmax` has no setting `base`"),
        ("softmax %a {axis=-1}", "`softmax`: `axis` of `-1`, expected a number from 0"),
        ("relu %a {alpha=1}", "`relu` has no setting `alpha`"),
        ("softmax %a {axis}", "expected `=`, found `}`"),
        ("softmax %a {axis=0", "expected `=`, found `%`"),
        ("softmax %a {1}", "expected a setting, such as `axis=1`, or `}`"),
        ("kernel %a {problem=matmul}", "expected a problem in quotes"),
        ("cast %a {to=f8}", "expected a type of elements"),
    ] {
        let e = refused(line, &x);
        assert!(e.contains(message), "{line}: {e}");
    }
}

fn of_constants(constants: &[Tensor]) -> Func {
    let mut builder = Func::builder("constants");
    let ids: Vec<_> = constants.iter().map(|c| builder.constant(c)).collect();
    builder.finish_all(&ids).unwrap()
}

#[test]
fn small_constants_are_read_again() {
    let mut constants: Vec<_> =
        ElementType::all().map(|element| tensor(element, &[2, 2], &[0.0, 1.0, 0.1, -3.7])).collect();
    constants.extend([f(&[4], &[NAN, INF, -INF, -0.0]), f(&[0, 3], &[]), f(&[], &[1e-300]), count(&[64])]);
    constants.push(i(&[3], &[i64::MIN, i64::MAX, (1 << 53) + 1]));
    constants.push(Tensor::from_elements([2], vec![u64::MAX, (1 << 53) + 1]).unwrap());
    let func = of_constants(&constants);
    let text = func.to_string();
    let read: Func = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(read, func);
    let results = func.interpret_f64(&[]).unwrap();
    for (constant, values) in constants.iter().zip(&results) {
        assert_close("constant", values, &constant.to_f64(), 0.0);
    }
    assert!(text.contains("constant i64[3] {-9223372036854775808, 9223372036854775807, 9007199254740993}"), "{text}");
}

#[test]
fn large_constants_are_hashed() {
    let text = of_constants(&[count(&[65])]).to_string();
    let other = of_constants(&[f(&[65], &[0.0; 65])]).to_string();
    assert!(text.contains("%0 = constant f64[65] hash:") && text != other, "{text}");
    let e = text.parse::<Func>().unwrap_err().to_string();
    assert_eq!(e, "2:8: %0: a text has constants of at most 64 elements, this one is f64[65]");
    for (constant, message) in [
        ("f32[2] {1}", "%0: 1 element(s) for f32[2]"),
        ("f32[1] {one}", "%0: `one` is not a number of this type"),
        ("i64[1] {1.5}", "%0: `1.5` is not a number of this type"),
        ("f32[1] {1 2}", "expected `,`, found `2`"),
        ("f32[1]", "expected `{`"),
        ("f32[1] {}", "%0: 0 element(s) for f32[1]"),
    ] {
        let e = format!("func @f() -> f32[1] {{\n%0 = constant {constant}\nreturn %0\n}}").parse::<Func>().unwrap_err();
        assert!(e.to_string().contains(message), "{constant}: {e}");
    }
}

#[test]
fn several_values_are_returned() {
    let text = "func @f(%x: f32[2]) -> f32[2], f32[2], f32[2] {\n  %0 = neg %x\n  return %0, %x, %0\n}\n";
    let func: Func = text.parse().unwrap();
    assert_eq!(func.to_string(), text);
    assert_eq!(func.interpret_f64(&[&[1.0, 2.0]]).unwrap(), [[-1.0, -2.0], [1.0, 2.0], [-1.0, -2.0]]);
    let few = text.replace("return %0, %x, %0", "return %0").parse::<Func>().unwrap_err().to_string();
    assert_eq!(few, "3:10: 1 value(s) are returned, but the function is declared to return 3");
    let mut builder = Func::builder("nothing");
    builder.constant(&count(&[1]));
    assert!(builder.finish_all(&[]).unwrap_err().to_string().contains("at least one"));
}

#[test]
fn operations_are_keys() {
    let norm = |epsilon: f64| TensorOp::from(Structured::RmsNorm { axis: 1, epsilon: Real(epsilon) });
    assert_eq!(norm(0.0), norm(0.0));
    assert_ne!(norm(0.0), norm(-0.0));
    assert_eq!(norm(f64::NAN), norm(f64::NAN));
}
