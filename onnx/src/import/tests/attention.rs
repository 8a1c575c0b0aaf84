//! Attention against the formula of its specification, written out in loops: masks, windows, past keys, heads, caps and all that
//! is shown of its scores.

use kiln_ir::func::Element;

use super::*;

/// Numbers without a pattern.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn floats(&mut self, n: u64) -> Vec<f32> {
        (0..n).map(|_| self.below(64) as f32 / 16.0 - 2.0).collect()
    }
}

/// An example of attention.
#[derive(Debug)]
struct Case {
    batch: u64,
    heads: u64,
    kv_heads: u64,
    queries: u64,
    new_keys: u64,
    past: u64,
    size: u64,
    is_flat: bool,
    is_causal: bool,
    window: [i64; 2],
    softcap: f64,
    scale: Option<f64>,
    mode: i64,
    /// Its shape, and whether it is of booleans.
    mask: Option<(Vec<u64>, bool)>,
    /// The number of valid keys of each image.
    valid: Option<Vec<i64>>,
}

impl Case {
    fn random(r: &mut Random) -> Case {
        let kv_heads = 1 + r.below(2);
        let past = if r.below(3) == 0 { 1 + r.below(3) } else { 0 };
        let mut case = Case {
            batch: 1 + r.below(2),
            heads: kv_heads * (1 + r.below(2)),
            kv_heads,
            queries: 1 + r.below(4),
            new_keys: 1 + r.below(5),
            past,
            size: 1 + r.below(3),
            is_flat: r.below(2) == 0,
            is_causal: r.below(2) == 0,
            window: [(); 2].map(|()| r.below(5) as i64 - 1),
            softcap: if r.below(3) == 0 { 1.5 } else { 0.0 },
            scale: (r.below(3) == 0).then_some(0.25),
            mode: r.below(4) as i64,
            mask: None,
            valid: None,
        };
        let keys = case.past + case.new_keys;
        if r.below(2) == 0 {
            // The last keys may be left out.
            let last = keys - r.below(keys.min(2));
            let all = [case.batch, case.heads, case.queries, last];
            let rank = 2 + r.below(3) as usize;
            let mut shape = all[4 - rank..].to_vec();
            if rank > 2 && r.below(2) == 0 {
                shape[0] = 1;
            }
            case.mask = Some((shape, r.below(2) == 0));
        }
        if case.past == 0 && r.below(3) == 0 {
            case.valid = Some((0..case.batch).map(|_| r.below(keys + 1) as i64).collect());
        }
        case
    }

    /// The results, and what is shown of scores.
    fn expected(&self, q: &[f32], k: &[f32], v: &[f32], past: &[Vec<f32>; 2], mask: &[f64]) -> [Vec<f64>; 2] {
        let (keys, group) = (self.past + self.new_keys, self.heads / self.kv_heads);
        let at = |x: &[f32], heads: u64, length: u64, [b, h, s, d]: [u64; 4]| {
            let place = match self.is_flat {
                true => ((b * length + s) * heads + h) * self.size + d,
                false => ((b * heads + h) * length + s) * self.size + d,
            };
            f64::from(x[place as usize])
        };
        let key_or_value = |new: &[f32], past: &[f32], [b, h, s, d]: [u64; 4]| match s.checked_sub(self.past) {
            Some(s) => at(new, self.kv_heads, self.new_keys, [b, h, s, d]),
            None => f64::from(past[(((b * self.kv_heads + h) * self.past + s) * self.size + d) as usize]),
        };
        let scale = self.scale.unwrap_or(1.0 / (self.size as f64).sqrt());
        let mut y = vec![0.0; (self.batch * self.heads * self.queries * self.size) as usize];
        let mut shown = vec![];
        for (b, h, i) in all3(self.batch, self.heads, self.queries) {
            let offset = match &self.valid {
                Some(valid) => valid[b as usize] - self.queries as i64,
                None => self.past as i64,
            };
            let bias = |j: u64| {
                let mut bias = 0.0;
                let distance = j as i64 - (offset + i as i64);
                let is_out = self.is_causal && distance > 0
                    || self.window[0] >= 0 && -distance > self.window[0]
                    || self.window[1] >= 0 && distance > self.window[1]
                    || self.valid.as_ref().is_some_and(|valid| j as i64 >= valid[b as usize]);
                if is_out {
                    bias = f64::NEG_INFINITY;
                }
                if let Some((shape, _)) = &self.mask {
                    let last = shape[shape.len() - 1];
                    let all = [b, h, i, j];
                    let place = all[4 - shape.len()..]
                        .iter()
                        .zip(shape)
                        .fold(0, |all, (at, n)| all * n + if *n == 1 { 0 } else { *at });
                    bias += if j < last { mask[place as usize] } else { f64::NEG_INFINITY };
                }
                bias
            };
            let dot = |j: u64| {
                let kv = h / group;
                (0..self.size)
                    .map(|d| at(q, self.heads, self.queries, [b, h, i, d]) * key_or_value(k, &past[0], [b, kv, j, d]))
                    .sum::<f64>()
            };
            let raw: Vec<f64> = (0..keys).map(|j| dot(j) * scale).collect();
            let cap = |s: &f64| if self.softcap > 0.0 { self.softcap * (s / self.softcap).tanh() } else { *s };
            let capped: Vec<f64> = raw.iter().map(cap).collect();
            let scores: Vec<f64> = capped.iter().zip(0..).map(|(s, j)| s + bias(j)).collect();
            let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - greatest).exp()).sum();
            let is_nothing = greatest == f64::NEG_INFINITY;
            let weights: Vec<f64> =
                scores.iter().map(|s| if is_nothing { 0.0 } else { (s - greatest).exp() / sum }).collect();
            for d in 0..self.size {
                let place = match self.is_flat {
                    true => ((b * self.queries + i) * self.heads + h) * self.size + d,
                    false => ((b * self.heads + h) * self.queries + i) * self.size + d,
                };
                let value = |j: u64| weights[j as usize] * key_or_value(v, &past[1], [b, h / group, j, d]);
                y[place as usize] = (0..keys).map(value).sum();
            }
            shown.extend(vec![raw, capped, scores, weights].swap_remove(self.mode as usize));
        }
        [y, shown]
    }

    fn check(&self, r: &mut Random) {
        let number_of = |heads: u64, length: u64| self.batch * heads * length * self.size;
        let q = r.floats(number_of(self.heads, self.queries));
        let [k, v] = [(); 2].map(|()| r.floats(number_of(self.kv_heads, self.new_keys)));
        let past = [(); 2].map(|()| r.floats(number_of(self.kv_heads, self.past)));
        let words = |dims: &[u64]| dims.iter().map(u64::to_string).collect::<Vec<_>>();
        let input = |name: &str, element: i32, dims: &[u64]| {
            let dims = words(dims);
            typed(name, element, &dims.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let shape = |heads: u64, length: u64| match self.is_flat {
            true => vec![self.batch, length, heads * self.size],
            false => vec![self.batch, heads, length, self.size],
        };
        let mut inputs = vec![
            input("q", 1, &shape(self.heads, self.queries)),
            input("k", 1, &shape(self.kv_heads, self.new_keys)),
            input("v", 1, &shape(self.kv_heads, self.new_keys)),
        ];
        let wide = |x: &[f32]| x.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
        let mut arguments = vec![wide(&q), wide(&k), wide(&v)];
        let mut names = vec!["q", "k", "v", "", "", "", ""];
        let mut mask = vec![];
        if let Some((shape, is_bool)) = &self.mask {
            let count = shape.iter().product::<u64>();
            let seen: Vec<bool> = (0..count).map(|_| r.below(3) > 0).collect();
            mask = seen.iter().map(|seen| if *seen { 0.0 } else { f64::NEG_INFINITY }).collect();
            names[3] = "m";
            inputs.push(input("m", if *is_bool { 9 } else { 1 }, shape));
            if !is_bool {
                mask.iter_mut().for_each(|m| *m += r.below(8) as f64 / 4.0);
            }
            arguments.push(if *is_bool {
                seen.iter().map(|s| f64::from(u8::from(*s))).collect()
            } else {
                mask.clone()
            });
        }
        if self.past > 0 {
            for (at, name, past) in [(4, "pk", &past[0]), (5, "pv", &past[1])] {
                names[at] = name;
                inputs.push(input(name, 1, &[self.batch, self.kv_heads, self.past, self.size]));
                arguments.push(wide(past));
            }
        }
        if let Some(valid) = &self.valid {
            names[6] = "n";
            inputs.push(input("n", 7, &[self.batch]));
            arguments.push(valid.iter().map(|n| *n as f64).collect());
        }
        let mut attributes =
            vec![number("qk_matmul_output_mode", self.mode), number("is_causal", self.is_causal.into())];
        attributes.extend(["left_window_size", "right_window_size"].iter().zip(self.window).map(|(n, w)| number(n, w)));
        if self.is_flat {
            attributes.push(number("q_num_heads", self.heads as i64));
            attributes.push(number("kv_num_heads", self.kv_heads as i64));
        }
        let float = |name: &str, f: f64| AttributeProto { f: f as f32, ..attribute(name, 1) };
        attributes.push(float("softcap", self.softcap));
        attributes.extend(self.scale.map(|scale| float("scale", scale)));
        let attention = with(node("Attention", &names, &["y", "", "", "s"]), &attributes);
        let func = import_as(25, &graph(&inputs, &[], &[attention], &["y", "s"]), &Bindings::new());
        let func = func.unwrap_or_else(|e| panic!("{self:?}: {e}")).func;
        let found = func.interpret_f64(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        for (found, expected) in found.iter().zip(self.expected(&q, &k, &v, &past, &mask)) {
            assert_eq!(found.len(), expected.len());
            let same = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-5;
            assert!(
                found.iter().zip(&expected).all(|(a, b)| same(*a, *b)),
                "{self:?}\n{found:?}\n{expected:?}\n{func}"
            );
        }
    }
}

fn all3(a: u64, b: u64, c: u64) -> impl Iterator<Item = (u64, u64, u64)> {
    (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
}

#[test]
fn values_are_those_of_the_formula() {
    let mut r = Random(7);
    let (mut windows, mut nothing) = (0, 0);
    for _ in 0..400 {
        let case = Case::random(&mut r);
        windows += usize::from(case.window != [-1, -1]);
        nothing += usize::from(case.valid.as_ref().is_some_and(|valid| valid.contains(&0)));
        case.check(&mut r);
    }
    // Windows, and images of which nothing is seen.
    assert!(windows > 300 && nothing > 20, "{windows} {nothing}");
}

#[test]
fn settings_that_are_not_defined_are_refused() {
    let inputs = ["q", "k", "v"].map(|name| value(name, &["1", "2", "3", "4"]));
    let of = |name: &str, i: i64| {
        let attention = with(node("Attention", &["q", "k", "v"], &["y"]), &[number(name, i)]);
        import_as(25, &graph(&inputs, &[], &[attention], &["y"]), &Bindings::new())
    };
    assert!(of("left_window_size", i64::MAX).is_ok() && of("q_num_heads", 2).is_ok());
    for (name, i) in [
        ("left_window_size", -2),
        ("right_window_size", i64::MIN),
        ("qk_matmul_output_mode", 4),
        ("softmax_precision", 7),
        ("q_num_heads", 3),
        ("kv_num_heads", -1),
    ] {
        let message = of(name, i).unwrap_err().to_string();
        assert!(
            message.contains("node `y` (Attention, operator set 25)") && message.contains(name) || i == 7,
            "{message}"
        );
    }
    let past = with(node("Attention", &["q", "k", "v", "", "v"], &["y"]), &[]);
    let error = import_as(25, &graph(&inputs, &[], &[past], &["y"]), &Bindings::new()).unwrap_err();
    assert!(error.to_string().contains("past_value"), "{error}");
}
