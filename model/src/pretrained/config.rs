//! `config.json`: which architecture, and its sizes.

use std::path::{Path, PathBuf};

use kiln_ir::func::Unary;
use serde::Deserialize;

use super::error::PretrainedError;
use super::weights::{self, Files};
use crate::arch::{BERT, Config, DISTILBERT, Family, Names, ROBERTA, ResNet, Top};

/// The name of the file.
pub(super) const FILE: &str = "config.json";

/// The network that is built of a folder.
#[derive(Debug)]
pub(super) enum Network {
    Encoder(Config),
    ResNet(ResNet),
}

/// The entries that all configurations have: one of transformers has a type, and one of timm an architecture.
#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
    architecture: Option<String>,
}

/// The settings of BERT and RoBERTa. Those that a file leaves out have the values that transformers gives them.
#[derive(Deserialize)]
#[serde(default)]
struct Bert {
    vocab_size: Option<u64>,
    hidden_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    intermediate_size: u64,
    hidden_act: String,
    max_position_embeddings: u64,
    type_vocab_size: u64,
    layer_norm_eps: f64,
    pad_token_id: Option<u64>,
    position_embedding_type: Option<String>,
    is_decoder: bool,
    tie_word_embeddings: bool,
}

impl Default for Bert {
    fn default() -> Self {
        Bert {
            vocab_size: None,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".into(),
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            pad_token_id: None,
            position_embedding_type: None,
            is_decoder: false,
            tie_word_embeddings: true,
        }
    }
}

/// The settings of DistilBERT, likewise.
#[derive(Deserialize)]
#[serde(default)]
struct DistilBert {
    vocab_size: u64,
    dim: u64,
    n_layers: u64,
    n_heads: u64,
    hidden_dim: u64,
    activation: String,
    max_position_embeddings: u64,
    tie_word_embeddings: bool,
}

impl Default for DistilBert {
    fn default() -> Self {
        DistilBert {
            vocab_size: 30522,
            dim: 768,
            n_layers: 6,
            n_heads: 12,
            hidden_dim: 3072,
            activation: "gelu".into(),
            max_position_embeddings: 512,
            tie_word_embeddings: true,
        }
    }
}

/// The settings of transformers' residual networks, likewise.
#[derive(Deserialize)]
#[serde(default)]
struct TransformersResNet {
    num_channels: u64,
    embedding_size: u64,
    hidden_sizes: Vec<u64>,
    depths: Vec<u64>,
    layer_type: String,
    hidden_act: String,
    downsample_in_first_stage: bool,
    downsample_in_bottleneck: bool,
}

impl Default for TransformersResNet {
    fn default() -> Self {
        TransformersResNet {
            num_channels: 3,
            embedding_size: 64,
            hidden_sizes: vec![256, 512, 1024, 2048],
            depths: vec![3, 4, 6, 3],
            layer_type: "bottleneck".into(),
            hidden_act: "relu".into(),
            downsample_in_first_stage: false,
            downsample_in_bottleneck: false,
        }
    }
}

/// The settings of a network of timm, beside its architecture.
#[derive(Deserialize)]
#[serde(default)]
struct Timm {
    global_pool: String,
    model_args: serde_json::Map<String, serde_json::Value>,
}

impl Default for Timm {
    fn default() -> Self {
        Timm { global_pool: "avg".into(), model_args: serde_json::Map::new() }
    }
}

/// The architectures that can be built.
enum Builder {
    Bert(&'static Family),
    DistilBert,
    ResNet,
    /// By its depths, which the architecture names.
    Timm([u64; 4]),
}

/// The configuration of a folder.
pub(super) struct ConfigFile {
    path: PathBuf,
    text: Vec<u8>,
    kind: Kind,
}

impl ConfigFile {
    /// Reads the file.
    pub(super) fn read(folder: &Path) -> Result<Self, PretrainedError> {
        let path = folder.join(FILE);
        let text = weights::json(&path)?;
        let kind =
            serde_json::from_slice(&text).map_err(|source| PretrainedError::Json { path: path.clone(), source })?;
        let file = ConfigFile { path, text, kind };
        file.builder().map(|_| file)
    }

    fn builder(&self) -> Result<Builder, PretrainedError> {
        match (self.kind.model_type.as_deref(), self.kind.architecture.as_deref()) {
            (Some("bert"), _) => Ok(Builder::Bert(&BERT)),
            (Some("roberta" | "xlm-roberta" | "camembert"), _) => Ok(Builder::Bert(&ROBERTA)),
            (Some("distilbert"), _) => Ok(Builder::DistilBert),
            (Some("resnet"), _) => Ok(Builder::ResNet),
            (None, Some("resnet50")) => Ok(Builder::Timm([3, 4, 6, 3])),
            (None, Some("resnet101")) => Ok(Builder::Timm([3, 4, 23, 3])),
            (None, Some("resnet152")) => Ok(Builder::Timm([3, 8, 36, 3])),
            (None, Some(other)) => Err(self.setting("architecture", other, "resnet50, resnet101 or resnet152")),
            (other, _) => Err(self.setting(
                "model_type",
                other.unwrap_or("not there"),
                "bert, distilbert, roberta, xlm-roberta, camembert, resnet, or an `architecture` of timm",
            )),
        }
    }

    /// The network. How many classes it tells apart is what its last weights say.
    pub(super) fn network(&self, files: &Files) -> Result<Network, PretrainedError> {
        match self.builder()? {
            Builder::Bert(family) => self.bert(files, family),
            Builder::DistilBert => self.distilbert(files),
            Builder::ResNet => self.resnet(files),
            Builder::Timm(depths) => self.timm(files, depths),
        }
    }

    fn parse<T: for<'de> Deserialize<'de>>(&self) -> Result<T, PretrainedError> {
        serde_json::from_slice(&self.text).map_err(|source| PretrainedError::Json { path: self.path.clone(), source })
    }

    fn setting(&self, setting: &'static str, found: impl ToString, supported: &'static str) -> PretrainedError {
        PretrainedError::Setting { path: self.path.clone(), setting, found: found.to_string(), supported }
    }

    /// Fails unless a setting has the only value that is supported.
    fn only(
        &self,
        setting: &'static str,
        is_so: bool,
        found: impl ToString,
        supported: &'static str,
    ) -> Result<(), PretrainedError> {
        if is_so { Ok(()) } else { Err(self.setting(setting, found, supported)) }
    }

    fn bert(&self, files: &Files, family: &'static Family) -> Result<Network, PretrainedError> {
        let bert: Bert = self.parse()?;
        let position = bert.position_embedding_type.as_deref().unwrap_or("absolute");
        self.only("position_embedding_type", position == "absolute", position, "absolute")?;
        self.only("is_decoder", !bert.is_decoder, bert.is_decoder, "false")?;
        let published_vocabulary = if family.padding.is_some() { 50265 } else { 30522 };
        let padding = family.padding.map(|token| bert.pad_token_id.unwrap_or(token));
        let reserved = padding.map_or(0, |token| token.saturating_add(1));
        let longest = bert.max_position_embeddings.checked_sub(reserved).filter(|longest| *longest > 0);
        let longest = longest.ok_or_else(|| {
            self.setting("max_position_embeddings", bert.max_position_embeddings, "more than `pad_token_id` + 1")
        })?;
        let config = Config {
            family,
            vocabulary: bert.vocab_size.unwrap_or(published_vocabulary),
            hidden: bert.hidden_size,
            inner: bert.intermediate_size,
            layers: bert.num_hidden_layers,
            heads: bert.num_attention_heads,
            longest,
            segments: Some(bert.type_vocab_size).filter(|segments| *segments > 0),
            padding,
            epsilon: bert.layer_norm_eps,
            activation: self.activation("hidden_act", &bert.hidden_act)?,
            top: Top::Hidden,
        };
        self.encoder(files, config, bert.tie_word_embeddings, "num_attention_heads")
    }

    fn distilbert(&self, files: &Files) -> Result<Network, PretrainedError> {
        let bert: DistilBert = self.parse()?;
        let family = &DISTILBERT;
        let config = Config {
            family,
            vocabulary: bert.vocab_size,
            hidden: bert.dim,
            inner: bert.hidden_dim,
            layers: bert.n_layers,
            heads: bert.n_heads,
            longest: bert.max_position_embeddings,
            segments: family.segments,
            padding: family.padding,
            epsilon: family.epsilon,
            activation: self.activation("activation", &bert.activation)?,
            top: Top::Hidden,
        };
        self.encoder(files, config, bert.tie_word_embeddings, "n_heads")
    }

    /// Checks the sizes of an encoder, and adds what is on top of it. `heads` is the setting with the number of its heads.
    fn encoder(
        &self,
        files: &Files,
        config: Config,
        is_tied: bool,
        heads: &'static str,
    ) -> Result<Network, PretrainedError> {
        let divides = config.heads > 0 && config.hidden > 0 && config.hidden.is_multiple_of(config.heads);
        self.only(heads, divides, config.heads, "a number that divides the channels")?;
        self.only("layer_norm_eps", config.epsilon >= 0.0, config.epsilon, "a number from 0")?;
        let architecture = self.kind.architectures.first().map_or("", String::as_str);
        // The names begin with that of the family, whatever the configuration's relatives are called.
        let top = ["ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "Model"]
            .into_iter()
            .find(|top| architecture.ends_with(top))
            .or(architecture.is_empty().then_some("Model"));
        let classes = || {
            let last = config.family.last_of_classifier(top == Some("ForTokenClassification"));
            self.classes(files, &format!("{last}.weight"), config.hidden)
        };
        let top = match top {
            Some("ForMaskedLM") => {
                self.only("tie_word_embeddings", is_tied, is_tied, "true")?;
                Top::Vocabulary
            }
            Some("ForSequenceClassification") => Top::Classes(classes()?),
            Some("ForTokenClassification") => Top::TokenClasses(classes()?),
            Some("Model") if files.shape("pooler.dense.weight").is_some() => Top::Pooled,
            Some("Model") => Top::Hidden,
            _ => {
                let supported =
                    "one that ends in Model, ForMaskedLM, ForSequenceClassification or ForTokenClassification";
                return Err(self.setting("architectures", architecture, supported));
            }
        };
        Ok(Network::Encoder(Config { top, ..config }))
    }

    fn resnet(&self, files: &Files) -> Result<Network, PretrainedError> {
        let net: TransformersResNet = self.parse()?;
        let architecture = self.kind.architectures.first().map_or("", String::as_str);
        let wanted = "ResNetForImageClassification";
        self.only("architectures", architecture == wanted, architecture, "ResNetForImageClassification")?;
        self.only("layer_type", net.layer_type == "bottleneck", &net.layer_type, "bottleneck")?;
        self.only("hidden_act", net.hidden_act == "relu", &net.hidden_act, "relu")?;
        let first = net.downsample_in_first_stage;
        self.only("downsample_in_first_stage", !first, first, "false")?;
        let inside = net.downsample_in_bottleneck;
        self.only("downsample_in_bottleneck", !inside, inside, "false")?;
        let inner = net.hidden_sizes.iter().map(|n| n.is_multiple_of(4).then_some(n / 4).filter(|n| *n > 0));
        let inner: Option<Vec<u64>> = inner.collect();
        let sizes = || {
            self.setting("hidden_sizes", format!("{:?}", net.hidden_sizes), "multiples of 4, one for each of `depths`")
        };
        let inner = inner.filter(|inner| inner.len() == net.depths.len() && !inner.is_empty()).ok_or_else(sizes)?;
        let stages = net.depths.iter().copied().zip(inner).collect();
        self.residual(files, Names::Transformers, net.num_channels, net.embedding_size, stages)
    }

    /// A network of timm.
    fn timm(&self, files: &Files, depths: [u64; 4]) -> Result<Network, PretrainedError> {
        let Timm { global_pool: pool, model_args } = self.parse()?;
        self.only("global_pool", pool == "avg", &pool, "avg")?;
        // timm writes the arguments that the network was made with. How many classes there are is what the weights say.
        let is_usual = |(name, value): &(&String, &serde_json::Value)| match name.as_str() {
            "num_classes" => true,
            "in_chans" => **value == 3,
            "global_pool" => **value == "avg",
            _ => false,
        };
        if let Some((name, value)) = model_args.iter().find(|argument| !is_usual(argument)) {
            return Err(self.setting(
                "model_args",
                format!("{name}={value}"),
                "num_classes, in_chans=3 and global_pool=avg",
            ));
        }
        let stages = depths.into_iter().zip([64, 128, 256, 512]).collect();
        self.residual(files, Names::Torchvision, 3, 64, stages)
    }

    fn residual(
        &self,
        files: &Files,
        names: Names,
        colours: u64,
        stem: u64,
        stages: Vec<(u64, u64)>,
    ) -> Result<Network, PretrainedError> {
        let pooled = stages.last().map_or(0, |(_, channels)| channels * 4);
        let classes = self.classes(files, &format!("{}.weight", names.classifier()), pooled)?;
        Ok(Network::ResNet(ResNet { names, colours, stem, stages, classes }))
    }

    /// The rows of the matrix of a last layer.
    fn classes(&self, files: &Files, name: &str, inputs: u64) -> Result<u64, PretrainedError> {
        match files.shape(name) {
            Some([classes, _]) => Ok(*classes),
            other => {
                let found = other.map_or_else(|| "not there".into(), |shape| format!("of shape {shape:?}"));
                Err(PretrainedError::Weights {
                    path: self.path.clone(),
                    why: format!("weight `{name}` is {found}: expected a row of {inputs} for each class"),
                })
            }
        }
    }

    fn activation(&self, setting: &'static str, name: &str) -> Result<Unary, PretrainedError> {
        match name {
            "gelu" => Ok(Unary::GeluErf {}),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Unary::GeluTanh {}),
            "relu" => Ok(Unary::Relu {}),
            "silu" | "swish" => Ok(Unary::Silu {}),
            _ => Err(self.setting(setting, name, "gelu, gelu_new, gelu_pytorch_tanh, relu or silu")),
        }
    }
}
