//! BERT, DistilBERT and RoBERTa: one encoder under three sets of names, and what is on top of it.

use kiln_ir::func::{Binary, ElementType, Func, Structured, Tensor, TensorType, Unary, ValueId};

use super::error::ArchError;
use super::net::Net;
use super::weights::{Distribution, Weights};

/// Gain of most layers.
const GAIN: f64 = 1.15;

/// Gain of the last layer of each residual branch, and of the last layer of classifiers with tanh.
const BRANCH_GAIN: f64 = 0.4;

/// An encoder and what is on top of it.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Whose names it has.
    pub family: &'static Family,
    /// Tokens that it knows.
    pub vocabulary: u64,
    /// Channels between layers.
    pub hidden: u64,
    /// Channels inside the feed-forward part of a layer.
    pub inner: u64,
    pub layers: u64,
    /// Heads of attention.
    pub heads: u64,
    /// The most tokens of a sequence.
    pub longest: u64,
    /// Segments that have an embedding, if any have.
    pub segments: Option<u64>,
    /// The token of padding from whose number on positions count tokens that are none; else positions are from 0, of all.
    pub padding: Option<u64>,
    /// Added to the variance in normalisations.
    pub epsilon: f64,
    /// The function between the two linear layers of the feed-forward part.
    pub activation: Unary,
    /// The layers behind the encoder.
    pub top: Top,
}

/// The differences between BERT and its relatives, in the names of their parts and elsewhere.
#[derive(Debug)]
pub(crate) struct Family {
    /// Before the name of each weight of the encoder.
    pub prefix: &'static str,
    /// Before the number of a layer.
    layers: &'static str,
    query: &'static str,
    key: &'static str,
    value: &'static str,
    attended: &'static str,
    attended_norm: &'static str,
    up: &'static str,
    down: &'static str,
    down_norm: &'static str,
    /// Segments that the published network has.
    pub segments: Option<u64>,
    /// True if the caller says which token is of which segment.
    takes_segments: bool,
    /// The token of padding that the published network counts positions from.
    pub padding: Option<u64>,
    /// The number that the published network adds to variances.
    pub epsilon: f64,
    /// The first and the last token of a sequence.
    pub ends: [u64; 2],
    /// The first of the two layers of a classifier of sequences, what follows it, and the last.
    classifier: (&'static str, Activation, &'static str),
    /// The names of a language model.
    language_model: LanguageModel,
}

/// The names of the parts of a language model behind the encoder. The last matrix is the table of the vocabulary.
#[derive(Debug)]
struct LanguageModel {
    dense: &'static str,
    norm: &'static str,
    bias: &'static str,
    /// The function after the dense layer; `None` if it is the one that the encoder has.
    activation: Option<Unary>,
}

/// The names that BERT has, and RoBERTa after its prefix.
macro_rules! bert_like {
    ($($field:ident: $value:expr),* $(,)?) => {
        Family {
            layers: "encoder.layer",
            query: "attention.self.query",
            key: "attention.self.key",
            value: "attention.self.value",
            attended: "attention.output.dense",
            attended_norm: "attention.output.LayerNorm",
            up: "intermediate.dense",
            down: "output.dense",
            down_norm: "output.LayerNorm",
            $($field: $value),*
        }
    };
}

pub(crate) static BERT: Family = bert_like! {
    prefix: "", segments: Some(2), takes_segments: true, padding: None, epsilon: 1e-12, ends: [101, 102],
    classifier: ("pooler.dense", Activation::Tanh, "classifier"),
    language_model: LanguageModel {
        dense: "cls.predictions.transform.dense",
        norm: "cls.predictions.transform.LayerNorm",
        bias: "cls.predictions.bias",
        activation: None,
    },
};

pub(crate) static ROBERTA: Family = bert_like! {
    prefix: "roberta.", segments: Some(1), takes_segments: false, padding: Some(1), epsilon: 1e-5, ends: [0, 2],
    classifier: ("classifier.dense", Activation::Tanh, "classifier.out_proj"),
    language_model: LanguageModel {
        dense: "lm_head.dense",
        norm: "lm_head.layer_norm",
        bias: "lm_head.bias",
        activation: Some(Unary::GeluErf {}),
    },
};

pub(crate) static DISTILBERT: Family = Family {
    prefix: "distilbert.",
    layers: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attended: "attention.out_lin",
    attended_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    down_norm: "output_layer_norm",
    segments: None,
    takes_segments: false,
    padding: None,
    epsilon: 1e-12,
    ends: [101, 102],
    classifier: ("pre_classifier", Activation::Relu, "classifier"),
    language_model: LanguageModel {
        dense: "vocab_transform",
        norm: "vocab_layer_norm",
        bias: "vocab_projector.bias",
        activation: None,
    },
};

impl Family {
    /// The name of the last layer of a classifier, of tokens or of sequences.
    pub fn last_of_classifier(&self, of_tokens: bool) -> &'static str {
        if of_tokens { "classifier" } else { self.classifier.2 }
    }
}

/// The layers behind the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Top {
    /// Nothing.
    Hidden,
    /// It is a result, and so is a layer of the first token.
    Pooled,
    /// Two linear layers of the first token give one number for each of some classes.
    Classes(u64),
    /// One linear layer gives each token a number for each of some classes.
    TokenClasses(u64),
    /// Each token of the vocabulary gets a number, at each position.
    Vocabulary,
}

/// The function between the layers of a classifier, which also tells the gain of the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activation {
    Relu,
    Tanh,
}

impl Config {
    /// Names and types of the arguments.
    pub(crate) fn inputs(&self, batch: u64, seq: u64) -> Result<Vec<(&'static str, TensorType)>, ArchError> {
        let ty = TensorType::new(ElementType::I64, [batch, seq])?;
        let mut inputs = vec![("input_ids", ty.clone()), ("attention_mask", ty.clone())];
        if self.family.takes_segments {
            inputs.push(("token_type_ids", ty));
        }
        Ok(inputs)
    }

    /// The network for these arguments, with weights from `weights`.
    pub(crate) fn build(
        &self,
        name: &str,
        inputs: &[(&'static str, TensorType)],
        weights: &dyn Weights,
    ) -> Result<Func, ArchError> {
        let (mut net, arguments) = Net::new(name, inputs, weights)?;
        let (table, mut x) = self.embed(&mut net, &arguments)?;
        let mask = mask(&mut net, arguments[1])?;
        for layer in 0..self.layers {
            let is_result = layer + 1 == self.layers && matches!(self.top, Top::Hidden | Top::Pooled);
            x = self.layer(&mut net, x, mask, layer, is_result.then_some("last_hidden_state"))?;
        }
        let results = self.top(&mut net, x, table)?;
        net.finish(&results)
    }

    /// The table of the vocabulary, and the sum of all embeddings, normalised.
    fn embed(&self, net: &mut Net<'_>, arguments: &[ValueId]) -> Result<(ValueId, ValueId), ArchError> {
        let Config { family, hidden, segments, padding, epsilon, .. } = *self;
        let name = |part: &str| format!("{}embeddings.{part}", family.prefix);
        net.set_layer(&name("word_embeddings"));
        let gather = Structured::Gather { axis: 0 };
        let ids = arguments[0];

        let table = net.weight(&name("word_embeddings.weight"), &[self.vocabulary, hidden], Distribution::Embedding)?;
        let mut x = net.push(gather.clone(), &[table, ids])?;
        if let Some(segments) = segments {
            let table =
                net.weight(&name("token_type_embeddings.weight"), &[segments, hidden], Distribution::Embedding)?;
            // Where the caller names no segments there is only one, which is for all tokens.
            let of_tokens = if family.takes_segments {
                net.push(gather.clone(), &[table, arguments[2]])?
            } else if segments > 1 {
                let first = Structured::Slice { starts: vec![0; 2], steps: vec![1; 2], counts: vec![1, hidden] };
                net.push(first, &[table])?
            } else {
                table
            };
            x = net.push(Binary::Add {}, &[x, of_tokens])?;
        }
        let reserved = padding.map_or(0, |token| token + 1);
        let shape = [self.longest + reserved, hidden];
        let places = net.weight(&name("position_embeddings.weight"), &shape, Distribution::Embedding)?;
        let positions = self.positions(net, ids)?;
        let of_positions = net.push(gather, &[places, positions])?;
        x = net.push(Binary::Add {}, &[x, of_positions])?;
        Ok((table, net.layer_norm(None, x, &name("LayerNorm"), epsilon)?))
    }

    /// The position of each token.
    fn positions(&self, net: &mut Net<'_>, ids: ValueId) -> Result<ValueId, ArchError> {
        let Some(padding) = self.padding else {
            let positions = net.shape(ids)?[1];
            let positions: Vec<_> = (0..positions as i64).collect();
            let shape = [positions.len() as u64];
            return Ok(net.builder().constant(&Tensor::from_elements(shape, positions).expect("as many")));
        };
        let padding = net.builder().constant(&Tensor::scalar(padding as i64));
        let is_padding = net.push(Binary::Equal {}, &[ids, padding])?;
        let is_token = net.push(Unary::Not {}, &[is_padding])?;
        let is_token = net.push(Structured::Cast { to: ElementType::I64 }, &[is_token])?;
        let so_far = net.push(Structured::CumSum { axis: 1, exclusive: false, reverse: false }, &[is_token])?;
        let counted = net.push(Binary::Mul {}, &[so_far, is_token])?;
        net.push(Binary::Add {}, &[counted, padding])
    }

    fn layer(
        &self,
        net: &mut Net<'_>,
        x: ValueId,
        mask: ValueId,
        layer: u64,
        result: Option<&str>,
    ) -> Result<ValueId, ArchError> {
        let Config { family, hidden, inner, epsilon, .. } = *self;
        let name = |part: &str| format!("{}{}.{layer}.{part}", family.prefix, family.layers);

        let attended = self.attention(net, x, mask, &name)?;
        let branch = net.linear(None, attended, &name(family.attended), hidden, BRANCH_GAIN)?;
        let sum = net.push(Binary::Add {}, &[branch, x])?;
        let x = net.layer_norm(None, sum, &name(family.attended_norm), epsilon)?;

        let up = net.linear(None, x, &name(family.up), inner, GAIN)?;
        let up = net.push(self.activation.clone(), &[up])?;
        let branch = net.linear(None, up, &name(family.down), hidden, BRANCH_GAIN)?;
        let sum = net.push(Binary::Add {}, &[branch, x])?;
        net.layer_norm(result, sum, &name(family.down_norm), epsilon)
    }

    fn attention(
        &self,
        net: &mut Net<'_>,
        x: ValueId,
        mask: ValueId,
        name: &dyn Fn(&str) -> String,
    ) -> Result<ValueId, ArchError> {
        let Config { family, hidden, heads, .. } = *self;
        let channels = hidden / heads;
        let shape = net.shape(x)?;
        let split = [shape[0], shape[1], heads, channels];
        let part = |net: &mut Net<'_>, part: &str, perm: &[u64]| {
            let x = net.linear(None, x, &name(part), hidden, GAIN)?;
            let x = net.reshape(x, &split)?;
            net.transpose(x, perm)
        };
        let query = part(net, family.query, &[0, 2, 1, 3])?;
        let key = part(net, family.key, &[0, 2, 3, 1])?;
        let value = part(net, family.value, &[0, 2, 1, 3])?;

        net.set_layer(&name("attention"));
        let scores = net.push(Structured::Matmul {}, &[query, key])?;
        let scale = net.builder().constant(&Tensor::scalar(1.0 / (channels as f32).sqrt()));
        let scores = net.push(Binary::Mul {}, &[scores, scale])?;
        let scores = net.push(Binary::Add {}, &[scores, mask])?;
        let weights = net.push(Structured::Softmax { axis: 3 }, &[scores])?;
        let mixed = net.push(Structured::Matmul {}, &[weights, value])?;
        let mixed = net.transpose(mixed, &[0, 2, 1, 3])?;
        net.reshape(mixed, &shape)
    }

    fn top(&self, net: &mut Net<'_>, x: ValueId, table: ValueId) -> Result<Vec<ValueId>, ArchError> {
        match self.top {
            Top::Hidden => Ok(vec![x]),
            Top::Pooled => {
                let first = first_token(net, x)?;
                let pooled = net.linear(None, first, "pooler.dense", self.hidden, GAIN)?;
                Ok(vec![x, net.push_as(Some("pooler_output"), Unary::Tanh {}, &[pooled])?])
            }
            Top::TokenClasses(classes) => {
                let last = self.family.last_of_classifier(true);
                Ok(vec![net.linear(Some("logits"), x, last, classes, GAIN)?])
            }
            Top::Classes(classes) => {
                let (first, activation, last) = self.family.classifier;
                let x = first_token(net, x)?;
                let x = net.linear(None, x, first, self.hidden, GAIN)?;
                let (op, gain) = match activation {
                    Activation::Relu => (Unary::Relu {}, GAIN),
                    Activation::Tanh => (Unary::Tanh {}, BRANCH_GAIN),
                };
                let x = net.push(op, &[x])?;
                Ok(vec![net.linear(Some("logits"), x, last, classes, gain)?])
            }
            Top::Vocabulary => {
                let names = &self.family.language_model;
                let x = net.linear(None, x, names.dense, self.hidden, GAIN)?;
                let activation = names.activation.as_ref().unwrap_or(&self.activation);
                let x = net.push(activation.clone(), &[x])?;
                let x = net.layer_norm(None, x, names.norm, self.epsilon)?;
                let bias = net.weight(names.bias, &[self.vocabulary], Distribution::Bias)?;
                Ok(vec![net.affine(Some("logits"), x, table, bias)?])
            }
        }
    }
}

/// The numbers that are added to scores of attention: nothing, or, where the mask is 0, so much that nothing is left.
fn mask(net: &mut Net<'_>, attention_mask: ValueId) -> Result<ValueId, ArchError> {
    net.set_layer("attention_mask");
    let shape = net.shape(attention_mask)?;
    let seen = net.push(Structured::Cast { to: ElementType::Bool }, &[attention_mask])?;
    let seen = net.reshape(seen, &[shape[0], 1, 1, shape[1]])?;
    let nothing = net.builder().constant(&Tensor::scalar(0f32));
    let lowest = net.builder().constant(&Tensor::scalar(f32::MIN));
    net.push(Structured::Where {}, &[seen, nothing, lowest])
}

/// The hidden channels of the first token of each sequence.
fn first_token(net: &mut Net<'_>, x: ValueId) -> Result<ValueId, ArchError> {
    let shape = net.shape(x)?;
    let op = Structured::Slice { starts: vec![0; 3], steps: vec![1; 3], counts: vec![shape[0], 1, shape[2]] };
    let x = net.push(op, &[x])?;
    net.reshape(x, &[shape[0], shape[2]])
}
