//! config.json of a checkpoint: which architecture, and its sizes.
//!
//! What the encoder cannot run is refused here, by name, with what is supported.

use serde::Deserialize;

use super::{LoadError, int8};

/// Vectors of any instruction set fill a row of this many components exactly.
const LANES_MAX: usize = 16;
/// Sums of so many products of bytes fit into 32 bits.
const WIDTH_MAX: usize = 65_536;

/// The sizes of a BERT encoder, checked: every product and slice in the encoder relies on them.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct BertConfig {
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) intermediate_size: usize,
    pub(super) max_position_embeddings: usize,
    pub(super) vocab_size: usize,
    #[serde(default = "default_layer_norm_eps")]
    pub(super) layer_norm_eps: f32,
    #[serde(default = "default_hidden_act")]
    hidden_act: String,
    #[serde(default = "default_position_embedding_type")]
    position_embedding_type: String,
}

/// Read first: another architecture lacks the fields above, and shall be refused by its name.
#[derive(Deserialize)]
struct Architecture {
    #[serde(default)]
    model_type: String,
}

impl BertConfig {
    pub(super) fn from_json(json: &[u8]) -> Result<Self, LoadError> {
        let malformed =
            |error: serde_json::Error| LoadError::Malformed { file: "config.json", reason: error.to_string() };
        let Architecture { model_type } = serde_json::from_slice(json).map_err(malformed)?;
        if model_type != "bert" {
            return Err(LoadError::Unsupported { what: "model_type", expected: "`bert`", got: model_type });
        }
        let config: Self = serde_json::from_slice(json).map_err(malformed)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), LoadError> {
        if self.hidden_act != "gelu" {
            return Err(LoadError::Unsupported {
                what: "hidden_act",
                expected: "`gelu`",
                got: self.hidden_act.clone(),
            });
        }
        if self.position_embedding_type != "absolute" {
            return Err(LoadError::Unsupported {
                what: "position_embedding_type",
                expected: "`absolute`",
                got: self.position_embedding_type.clone(),
            });
        }
        if self.num_hidden_layers == 0 {
            return Err(LoadError::Unsupported {
                what: "num_hidden_layers",
                expected: "1 and more",
                got: self.num_hidden_layers.to_string(),
            });
        }
        // Not so of NaN either.
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return Err(LoadError::Unsupported {
                what: "layer_norm_eps",
                expected: "more than 0 and less than 1, in f32",
                got: self.layer_norm_eps.to_string(),
            });
        }
        let heads = self.num_attention_heads;
        if heads == 0 || !self.hidden_size.is_multiple_of(heads) || !self.head_size().is_multiple_of(LANES_MAX) {
            return Err(LoadError::Unsupported {
                what: "hidden_size / num_attention_heads",
                expected: "a multiple of 16",
                got: format!("{} / {heads}", self.hidden_size),
            });
        }
        // What attention gives is put where the wide layer's output will be; sums of products of bytes fit 32 bits up to there.
        let is_wide = (self.hidden_size..=WIDTH_MAX).contains(&self.intermediate_size);
        if self.hidden_size == 0 || !is_wide || !self.intermediate_size.is_multiple_of(LANES_MAX) {
            return Err(LoadError::Unsupported {
                what: "hidden_size, intermediate_size",
                expected: "multiples of 16 from 16 to 65,536, the second at least the first",
                got: format!("{}, {}", self.hidden_size, self.intermediate_size),
            });
        }
        Ok(())
    }

    /// What a product of bytes asks for beyond that.
    pub(super) fn check_int8(&self) -> Result<(), LoadError> {
        if int8::takes(self.hidden_size) && int8::takes(self.intermediate_size) {
            return Ok(());
        }
        Err(LoadError::Unsupported {
            what: "hidden_size, intermediate_size",
            expected: "multiples of 64 for the precision int8 (any of these for f32)",
            got: format!("{}, {}", self.hidden_size, self.intermediate_size),
        })
    }

    pub(super) fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}

fn default_layer_norm_eps() -> f32 {
    1e-12
}

fn default_hidden_act() -> String {
    "gelu".to_owned()
}

fn default_position_embedding_type() -> String {
    "absolute".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINILM: &str = r#"{"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
        "intermediate_size": 1536, "max_position_embeddings": 512, "vocab_size": 30522, "hidden_act": "gelu"}"#;

    #[test]
    fn minilm_is_supported() {
        let config = BertConfig::from_json(MINILM.as_bytes()).unwrap();
        assert_eq!(config.head_size(), 32);
        assert_eq!(config.layer_norm_eps, 1e-12);
    }

    #[test]
    fn a_wide_layer_that_is_none_is_refused() {
        for width in ["0", "256", "65552", "1544"] {
            let config = MINILM.replace("1536", width);
            let error = BertConfig::from_json(config.as_bytes()).expect_err(width).to_string();
            assert!(error.contains(&format!("`384, {width}`")), "{error}");
        }
    }

    #[test]
    fn no_layers_and_norms_by_nothing_are_refused_by_name() {
        let with = |from: &str, to: &str| {
            let config = MINILM.replace(from, to);
            BertConfig::from_json(config.as_bytes()).expect_err(to).to_string()
        };
        let error = with(r#""num_hidden_layers": 6"#, r#""num_hidden_layers": 0"#);
        assert_eq!(error, "num_hidden_layers in config.json is `0`; supported is 1 and more");
        // The last one is 0 in f32.
        for epsilon in ["0", "-1e-12", "1", "1e30", "1e-60"] {
            let error = with(r#""hidden_act""#, &format!(r#""layer_norm_eps": {epsilon}, "hidden_act""#));
            assert!(error.starts_with("layer_norm_eps in config.json is `"), "{error}");
        }
    }

    #[test]
    fn another_architecture_is_refused_by_name() {
        let error = BertConfig::from_json(br#"{"model_type": "mpnet", "d_model": 768}"#).unwrap_err();
        assert_eq!(error.to_string(), "model_type in config.json is `mpnet`; supported is `bert`");
    }

    #[test]
    fn another_activation_is_refused_by_name() {
        let json = MINILM.replace(r#""hidden_act": "gelu""#, r#""hidden_act": "gelu_new""#);
        let error = BertConfig::from_json(json.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "hidden_act in config.json is `gelu_new`; supported is `gelu`");
    }

    #[test]
    fn heads_that_do_not_divide_the_hidden_size_are_refused() {
        let json = MINILM.replace(r#""num_attention_heads": 12"#, r#""num_attention_heads": 7"#);
        assert!(BertConfig::from_json(json.as_bytes()).is_err());
    }
}
