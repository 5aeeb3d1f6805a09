//! `[model]`: what learns the task.

use std::path::PathBuf;

use serde::Deserialize;

use super::task::Start;
use super::{Problem, TaskName};
use crate::models::Head;
use crate::models::bert::BertConfig;
use crate::models::bi_lstm_tagger::BiLstmTaggerConfig;
use crate::models::detector::DetectorConfig;
use crate::models::encoder_decoder::EncoderDecoderConfig;
use crate::models::gru_spotter::GruSpotterConfig;
use crate::models::lstm_classifier::LstmClassifierConfig;
use crate::models::lstm_language_model::LstmLanguageModelConfig;
use crate::models::mobilenet::MobileNetV2Config;
use crate::models::resnet::ResNetConfig;
use crate::models::resnet_imagenet::ImageNetResNetConfig;
use crate::models::vgg::VggSmallConfig;
use crate::models::vit::VitConfig;

/// The model families there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arch {
    /// A BERT encoder.
    Bert,
    /// ResNet for small images.
    Resnet,
    /// ResNet for large images, 18 to 152 layers.
    ImagenetResnet,
    /// VGG-Small.
    Vgg,
    /// MobileNetV2.
    MobilenetV2,
    /// A Vision Transformer.
    Vit,
    /// A one-stage detector.
    Detector,
    /// An LSTM classifier.
    Lstm,
    /// An LSTM language model.
    LstmLanguageModel,
    /// A recurrent spotter of spoken words.
    GruSpotter,
    /// A bidirectional LSTM for slots and intents.
    BiLstmTagger,
    /// An encoder-decoder Transformer.
    EncoderDecoder,
}

impl Arch {
    /// Its name in a configuration, which that of its table is, too.
    pub(super) fn name(self) -> &'static str {
        match self {
            Arch::Bert => "bert",
            Arch::Resnet => "resnet",
            Arch::ImagenetResnet => "imagenet-resnet",
            Arch::Vgg => "vgg",
            Arch::MobilenetV2 => "mobilenet-v2",
            Arch::Vit => "vit",
            Arch::Detector => "detector",
            Arch::Lstm => "lstm",
            Arch::LstmLanguageModel => "lstm-language-model",
            Arch::GruSpotter => "gru-spotter",
            Arch::BiLstmTagger => "bi-lstm-tagger",
            Arch::EncoderDecoder => "encoder-decoder",
        }
    }
}

/// `[model]`: the family, and its table of settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelConfig {
    /// Which family.
    pub arch: Arch,
    /// For `bert` a folder with `config.json`, `model.safetensors` and `tokenizer.json`; for
    /// `imagenet-resnet` and `mobilenet-v2` a file of weights under torchvision's names
    /// (`.safetensors`, `.pt`, `.pth`). Or its name in the folder that `AUSN_PRETRAINED_DIR` names.
    pub pretrained: Option<PathBuf>,
    /// The last layer of a model that starts from a file of weights.
    #[serde(default)]
    pub head: Head,
    /// Settings of `bert`; of one that starts from a pretrained folder `pooling` alone.
    #[serde(default)]
    pub bert: BertConfig,
    /// Settings of `resnet`.
    #[serde(default)]
    pub resnet: ResNetConfig,
    /// Settings of `imagenet-resnet`.
    #[serde(default)]
    pub imagenet_resnet: ImageNetResNetConfig,
    /// Settings of `vgg`.
    #[serde(default)]
    pub vgg: VggSmallConfig,
    /// Settings of `mobilenet-v2`.
    #[serde(default)]
    pub mobilenet_v2: MobileNetV2Config,
    /// Settings of `vit`.
    #[serde(default)]
    pub vit: VitConfig,
    /// Settings of `detector`.
    #[serde(default)]
    pub detector: DetectorConfig,
    /// Settings of `lstm`.
    #[serde(default)]
    pub lstm: LstmClassifierConfig,
    /// Settings of `lstm-language-model`.
    #[serde(default)]
    pub lstm_language_model: LstmLanguageModelConfig,
    /// Settings of `gru-spotter`.
    #[serde(default)]
    pub gru_spotter: GruSpotterConfig,
    /// Settings of `bi-lstm-tagger`.
    #[serde(default)]
    pub bi_lstm_tagger: BiLstmTaggerConfig,
    /// Settings of `encoder-decoder`.
    #[serde(default)]
    pub encoder_decoder: EncoderDecoderConfig,
}

impl ModelConfig {
    pub(super) fn validate(&self, task: TaskName) -> Result<(), Problem> {
        let allowed = task.archs();
        if !allowed.contains(&self.arch) {
            let allowed: Vec<&str> = allowed.iter().map(|arch| arch.name()).collect();
            let message = format!(
                "is \"{}\", which does not serve this task; use {}",
                self.arch.name(),
                allowed.join(", ")
            );
            return Err(Problem::new("model.arch", message));
        }
        match (task.start(self.arch), &self.pretrained) {
            (Start::Published, None) => {
                return Err(Problem::new(
                    "model.pretrained",
                    "is missing: this task needs a pretrained folder, for its tokenizer and weights",
                ));
            }
            (Start::Fresh, Some(_)) => {
                return Err(Problem::new(
                    "model.pretrained",
                    "is set, but this task does not start from a pretrained folder; leave the key out",
                ));
            }
            _ => {}
        }
        if self.head != Head::default() && self.pretrained.is_none() {
            let message = "is that of a file of weights, which model.pretrained does not name";
            return Err(Problem::new("model.head", message));
        }
        let pooling_alone = BertConfig { pooling: self.bert.pooling, ..BertConfig::default() };
        if self.arch == Arch::Bert && self.pretrained.is_some() && self.bert != pooling_alone {
            return Err(Problem::new(
                "model.bert",
                "sets more than `pooling` beside a pretrained folder, whose config.json says the rest; \
                 leave the other keys out",
            ));
        }
        for (table, result) in [
            ("bert", self.bert.validate()),
            ("resnet", self.resnet.validate()),
            ("imagenet-resnet", self.imagenet_resnet.validate()),
            ("vgg", self.vgg.validate()),
            ("mobilenet-v2", self.mobilenet_v2.validate()),
            ("vit", self.vit.validate()),
            ("detector", self.detector.validate()),
            ("lstm", self.lstm.validate()),
            ("lstm-language-model", self.lstm_language_model.validate()),
            ("gru-spotter", self.gru_spotter.validate()),
            ("bi-lstm-tagger", self.bi_lstm_tagger.validate()),
            ("encoder-decoder", self.encoder_decoder.validate()),
        ] {
            if let Err((key, message)) = result {
                return Err(Problem::new(format!("model.{table}.{key}"), message));
            }
        }
        Ok(())
    }
}
