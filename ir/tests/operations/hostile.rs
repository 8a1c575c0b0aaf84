//! No settings and operands make an operation panic, or run for long.

use kiln_ir::func::{Control, ElementType, Func, Tensor, TensorOp, TensorType};

use super::cases::tensor;

/// A pseudo-random sequence.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }

    fn number(&mut self) -> u64 {
        let seldom = [4, 1 << 20, 1 << 32, 1 << 40, u64::MAX >> 1, (u64::MAX >> 1) + 1, u64::MAX];
        if self.below(8) == 0 { self.of(&seldom) } else { self.below(4) }
    }

    fn list(&mut self, length: usize, item: impl Fn(&mut Self) -> String) -> String {
        let length = if self.below(16) == 0 { self.below(4) as usize } else { length };
        let items: Vec<_> = (0..length).map(|_| item(self)).collect();
        format!("[{}]", items.join(","))
    }

    /// A value for a setting of this name.
    fn setting(&mut self, name: &str, rank: usize) -> String {
        let axes = rank.saturating_sub(2);
        let reals = ["0", "1", "-1", "0.5", "inf", "-inf", "NaN", "1e300", "1e-300"];
        match name {
            "alpha" | "beta" | "gamma" | "low" | "high" | "epsilon" | "bias" | "value" => self.of(&reals).into(),
            "kernel" | "strides" | "dilations" | "out" | "output_pads" | "pixels" | "taps" => {
                self.list(axes, |r| r.number().to_string())
            }
            "pads" => self.list(2 * axes, |r| r.number().to_string()),
            "starts" | "counts" | "before" | "after" | "shape" => self.list(rank, |r| r.number().to_string()),
            "steps" => self.list(rank, |r| (r.number() as i64).wrapping_neg().to_string()),
            "perm" | "axes" => {
                let at = self.below(rank as u64 + 1);
                let list: Vec<_> = (0..rank as u64).map(|a| ((a + at) % rank as u64).to_string()).collect();
                if name == "perm" { format!("[{}]", list.join(",")) } else { self.list(1, |r| r.below(4).to_string()) }
            }
            "channels_last" | "align_corners" | "half_pixel" | "largest" | "keep" | "last" | "max" | "exclusive"
            | "reverse" | "column_major" => self.of(&["true", "false"]).into(),
            "groups" if self.below(2) == 0 => "1".into(),
            "groups" | "axis" | "size" | "p" | "k" | "batch" | "rows" | "columns" | "samples" => {
                self.number().to_string()
            }
            "scale" => self.of(&reals).into(),
            "merge" => self.of(&["replace", "add", "mul", "max", "min"]).into(),
            "sampling" => self.of(&["nearest", "linear", "cubic"]).into(),
            "outside" => self.of(&["zeros", "border", "reflection"]).into(),
            "to" => ElementType::all().nth(self.below(13) as usize).unwrap().to_string(),
            "mode" => self.of(&["constant", "reflect", "edge", "wrap"]).into(),
            "problem" => "\"matmul f32 2x2:2x2\"".into(),
            other => panic!("{other}"),
        }
    }

    fn tensor(&mut self, element: ElementType, shape: &[u64]) -> Tensor {
        let values = [0.0, 1.0, -1.0, 2.0, -3.5, 127.0, 1e30, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        let elements: Vec<_> = (0..shape.iter().product::<u64>()).map(|_| self.of(&values)).collect();
        tensor(element, shape, &elements)
    }
}

/// Settings that each operation has, by name.
fn settings(word: &str) -> &'static str {
    match word {
        "leaky_relu" | "thresholded_relu" | "elu" | "celu" => "alpha",
        "selu" => "alpha gamma",
        "hard_sigmoid" => "alpha beta",
        "clamp" => "low high",
        "cast" | "bit_cast" => "to",
        "conv" => "strides pads dilations groups channels_last",
        "conv_transpose" => "strides pads dilations output_pads groups",
        "columns_to_image" => "pixels taps strides pads dilations out",
        "pool" => "kind p kernel strides pads dilations out channels_last",
        "max_pool_indices" => "kernel strides pads dilations out column_major",
        "reduce" => "kind axes keep",
        "arg_reduce" => "max axis keep last",
        "cumsum" | "cumprod" => "axis exclusive reverse",
        "top_k" => "k axis largest",
        "gather_elements" => "axis",
        "gather_nd" => "batch",
        "scatter_elements" => "axis merge",
        "scatter_nd" => "merge",
        "grid_sample" => "sampling outside align_corners",
        "roi_align" => "rows columns samples scale max half_pixel",
        "softmax" | "masked_softmax" | "log_softmax" | "concat" | "gather" => "axis",
        "layer_norm" | "rms_norm" => "axis epsilon",
        "batch_norm" => "epsilon channels_last",
        "lrn" => "size alpha beta bias",
        "reshape" | "broadcast" => "shape",
        "transpose" => "perm",
        "slice" => "starts steps counts",
        "pad" => "mode before after value",
        "kernel" => "problem",
        _ => "",
    }
}

/// The words of all operations but those that run functions, which have tests of their own.
fn names() -> Vec<&'static str> {
    TensorOp::names().filter(|word| !Control::NAMES.contains(word)).collect()
}

#[test]
fn any_settings_are_refused_or_evaluated() {
    /// Results that are not worth a test's time.
    const MOST: u64 = 1 << 12;
    let mut random = Random(7);
    let mut evaluated = std::collections::HashMap::new();
    for case in 0..60_000 {
        let words = names();
        let word = words[case % words.len()];
        let rank = if random.below(2) == 0 { 3 } else { random.below(5) as usize };
        let shape: Vec<u64> = (0..rank).map(|_| random.of(&[0, 1, 1, 2, 2, 2, 3])).collect();
        let element = random.of(&[
            ElementType::F64,
            ElementType::F64,
            ElementType::F32,
            ElementType::I8,
            ElementType::I64,
            ElementType::Bool,
        ]);
        let mut operands = vec![];
        for _ in 0..random.of(&[1, 1, 2, 2, 3, 5]) {
            let same = random.below(3) > 0;
            let shape: Vec<u64> =
                if same { shape.clone() } else { (0..random.below(4)).map(|_| random.below(3)).collect() };
            let element = if random.below(8) == 0 { ElementType::I64 } else { element };
            operands.push(random.tensor(element, &shape));
        }
        if word == "where" {
            operands[0] = random.tensor(ElementType::Bool, &shape);
        }
        if word.starts_with("conv") && rank > 2 {
            let weights: Vec<u64> = (0..rank).map(|_| random.of(&[1, 1, 2, 2, 0])).collect();
            operands = vec![random.tensor(element, &shape), random.tensor(element, &weights)];
        }
        if word == "columns_to_image" && rank == 3 {
            operands = vec![random.tensor(element, &[2, 2, 2])];
        }
        if word == "kernel" {
            operands = vec![random.tensor(ElementType::F32, &[2, 2]), random.tensor(ElementType::F32, &[4])];
        }
        let index = |random: &mut Random, shape: &[u64]| {
            let elements =
                (0..shape.iter().product::<u64>()).map(|_| random.of(&[0.0, 0.0, 1.0, -1.0, 2.0, -2.0, 9.0]));
            let elements: Vec<_> = elements.collect();
            tensor(random.of(&[ElementType::I64, ElementType::I32]), shape, &elements)
        };
        match word {
            "gather_elements" | "scatter_elements" => {
                let wanted: Vec<u64> = shape.iter().map(|n| random.of(&[*n, *n, 1])).collect();
                let indices = index(&mut random, &wanted);
                operands = vec![random.tensor(element, &shape), indices, random.tensor(element, &wanted)];
                operands.truncate(if word == "gather_elements" { 2 } else { 3 });
            }
            "gather_nd" | "scatter_nd" if rank > 1 => {
                let (rows, count) = (random.of(&[shape[0], 1, 3]), random.of(&[1, 2]));
                let indices = index(&mut random, &[rows, count]);
                let slices = [&[rows], &shape[count as usize..]].concat();
                operands = vec![random.tensor(element, &shape), indices, random.tensor(element, &slices)];
                operands.truncate(if word == "gather_nd" { 2 } else { 3 });
            }
            "grid_sample" if rank > 2 => {
                let axes = rank as u64 - 2;
                let points = [vec![shape[0]], vec![2; rank - 2], vec![axes]].concat();
                operands = vec![random.tensor(element, &shape), random.tensor(element, &points)];
            }
            "lstm_cell" | "gru_cell" => {
                let (batch, n) = (random.of(&[0, 1, 2]), random.of(&[0, 1, 3]));
                let gates = if word == "lstm_cell" { 4 * n } else { 3 * n };
                let shapes: &[[u64; 2]] = match word {
                    "lstm_cell" => &[[batch, gates], [batch, n], [3, n]],
                    _ => &[[batch, gates], [batch, gates], [batch, n]],
                };
                operands = shapes.iter().map(|shape| random.tensor(element, shape)).collect();
            }
            "roi_align" => {
                let (pixels, which) = (random.of(&[1, 2, 3]), index(&mut random, &[2]));
                let images = random.tensor(element, &[2, 1, pixels, 2]);
                operands = vec![images, random.tensor(element, &[2, 4]), which];
            }
            _ => {}
        }
        if word == "batch_norm" && rank > 1 {
            operands = vec![random.tensor(element, &shape)];
            operands.extend((0..4).map(|_| random.tensor(element, &shape[1..2])));
        }
        let kinds: &[_] = match word {
            "pool" => &["max", "average", "average_padded", "lp"],
            _ => &["sum", "mean", "max", "min", "prod", "l1", "l2", "sum_square", "log_sum_exp"],
        };
        let text: Vec<_> = settings(word)
            .split(' ')
            .filter(|name| !name.is_empty())
            .map(|name| match name {
                "kind" => format!("kind={}", random.of(kinds)),
                // One number per axis here.
                "pads" if word == "columns_to_image" => format!("pads={}", random.setting("strides", rank)),
                _ => format!("{name}={}", random.setting(name, rank)),
            })
            .collect();
        let arguments: Vec<_> = operands.iter().zip('a'..).map(|(o, name)| format!("%{name}: {}", o.ty())).collect();
        let names: Vec<_> = ('a'..).take(operands.len()).map(|name| format!("%{name}")).collect();
        let line = format!("{word} {} {{{}}}", names.join(", "), text.join(" "));
        // The type is the one that the error names.
        let of = |ty: &str| format!("func @f({}) -> {ty} {{\n%0 = {line}\nreturn %0\n}}", arguments.join(", "));
        let error = of("u16[9x9x9]").parse::<Func>().unwrap_err().to_string();
        let Some((_, ty)) = error.split_once("%0 is ") else {
            assert!(!error.contains(&format!("`{word}`")), "{line}: {error}");
            continue;
        };
        let func: Func = of(ty.split(',').next().unwrap()).parse().unwrap_or_else(|e| panic!("{e}\n{line}"));
        let result = func.value(func.results()[0]);
        if result.ty.elements() > MOST {
            continue;
        }
        let applied = match super::cases::op(&func).apply(&operands.iter().collect::<Vec<_>>()) {
            Ok(applied) => applied,
            // Elements are what a type does not tell.
            Err(e) if e.to_string().contains("is outside of") => {
                assert!(
                    word.starts_with("gather") || word.starts_with("scatter") || word == "roi_align",
                    "{line}: {e}"
                );
                continue;
            }
            Err(e) => panic!("{line}: {e}"),
        };
        assert_eq!(applied.ty(), &result.ty, "{line}");
        let data: Vec<_> = operands.iter().map(Tensor::to_f64).collect();
        let interpreted = func.interpret_f64(&data.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        let rounded = Tensor::from_f64(result.ty.clone(), &interpreted[0]).to_f64();
        *evaluated.entry(word).or_insert(0) += 1;
        // Integers beyond 2^53 are exact when applied, and rounded when interpreted.
        let is_exact = |v: &f64| v.abs() < (1u64 << 53) as f64;
        let wide = |ty: &TensorType| matches!(ty.element(), ElementType::I64 | ElementType::U64);
        let inside = operands.iter().zip(&data).all(|(o, data)| !wide(o.ty()) || data.iter().all(is_exact));
        if !(inside && (!wide(&result.ty) || rounded.iter().all(is_exact))) {
            continue;
        }
        super::cases::assert_close(&line, &applied.to_f64(), &rounded, 0.0);
    }
    for word in names() {
        assert!(evaluated.get(word).is_some_and(|n| *n >= 5), "{word}: {:?}", evaluated.get(word));
    }
}
