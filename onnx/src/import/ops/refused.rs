//! The operators that ONNX defines and Kiln refuses, by reason.

/// Operators, domains or types of elements that are not supported, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Their kind: `operators`, `domains` or `types`.
    pub kind: &'static str,
    /// Their names.
    pub names: &'static [&'static str],
    /// The reason why they are refused, and what can be done.
    pub why: &'static str,
}

const REFUSALS: &[Refusal] = &[
    Refusal {
        kind: "operators",
        names: &["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"],
        why: "its results are random numbers: make them outside of the network, and give them as an input",
    },
    Refusal {
        kind: "operators",
        names: &["RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"],
        why: "it works on texts: do so before the network, which has tensors of numbers",
    },
    Refusal {
        kind: "operators",
        names: &["ImageDecoder"],
        why: "it reads files of images: decode them before the network",
    },
    Refusal {
        kind: "domains",
        names: &["ai.onnx.ml"],
        why: "its operators are trees, support vectors and encoders, not networks: leave them to ONNX Runtime",
    },
    Refusal {
        kind: "domains",
        names: &["ai.onnx.preview.training", "ai.onnx.training"],
        why: "its operators train a network: export the model for inference",
    },
    Refusal {
        kind: "domains",
        names: &["com.microsoft.nchwc", "com.ms.internal.nhwc"],
        why: "its operators have the layouts of one machine: save the optimized model at the `extended` level",
    },
    Refusal { kind: "types", names: &["string", "complex64", "complex128"], why: "nothing here computes with them" },
    Refusal {
        kind: "types",
        names: &[
            "float8e4m3fn",
            "float8e4m3fnuz",
            "float8e5m2",
            "float8e5m2fnuz",
            "float8e8m0",
            "float6e2m3",
            "float6e3m2",
            "float4e2m1",
            "int4",
            "uint4",
            "int2",
            "uint2",
        ],
        why: "numbers of 8 bits and fewer are supported as int8 and uint8 alone",
    },
];

/// All of them, by kind.
pub fn refusals() -> &'static [Refusal] {
    REFUSALS
}

/// The reason why an operator of a domain is refused, if there is one.
pub(super) fn why(domain: &str, op: &str) -> Option<&'static str> {
    let (kind, name) = if domain.is_empty() { ("operators", op) } else { ("domains", domain) };
    REFUSALS.iter().find(|refusal| refusal.kind == kind && refusal.names.contains(&name)).map(|refusal| refusal.why)
}
