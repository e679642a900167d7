//! The weights of one layer as a checkpoint has them, before they are packed for a precision.

use super::LoadError;
use super::config::BertConfig;
use super::elementwise::Norm;
use super::tensors::Tensors;

/// The names of the linear layers within a layer, in checkpoints.
pub(super) const QKV: [&str; 3] = ["attention.self.query", "attention.self.key", "attention.self.value"];
pub(super) const ATTENDED: &str = "attention.output.dense";
pub(super) const WIDEN: &str = "intermediate.dense";
pub(super) const NARROW: &str = "output.dense";

/// Linear layers as `(weights, bias)`, with a row of weights for each output.
pub(super) struct LayerWeights {
    /// Query, key and value, one after the other.
    pub(super) qkv: (Vec<f32>, Vec<f32>),
    pub(super) attended: (Vec<f32>, Vec<f32>),
    pub(super) attended_norm: Norm,
    pub(super) widen: (Vec<f32>, Vec<f32>),
    pub(super) narrow: (Vec<f32>, Vec<f32>),
    pub(super) narrow_norm: Norm,
}

impl LayerWeights {
    /// Those of layer `index`.
    pub(super) fn read(tensors: &Tensors<'_>, config: &BertConfig, index: usize) -> Result<Self, LoadError> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let linear = |parts: &[&str], inputs: usize, outputs: usize| {
            let (mut weights, mut bias) = (Vec::new(), Vec::new());
            for part in parts {
                weights.extend(tensors.get(&format!("{}.weight", name(part)), &[outputs, inputs])?);
                bias.extend(tensors.get(&format!("{}.bias", name(part)), &[outputs])?);
            }
            Ok::<_, LoadError>((weights, bias))
        };
        Ok(Self {
            qkv: linear(&QKV, hidden, hidden)?,
            attended: linear(&[ATTENDED], hidden, hidden)?,
            attended_norm: tensors.norm(&name("attention.output.LayerNorm"), config)?,
            widen: linear(&[WIDEN], hidden, wide)?,
            narrow: linear(&[NARROW], wide, hidden)?,
            narrow_norm: tensors.norm(&name("output.LayerNorm"), config)?,
        })
    }
}
