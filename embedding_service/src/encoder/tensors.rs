//! model.safetensors: named tensors, read as f32 whatever they are stored as.

use safetensors::{Dtype, SafeTensors};

use super::LoadError;
use super::config::BertConfig;
use super::elementwise::Norm;

/// The tensors of a checkpoint, with and without the `bert.` in front of their names.
pub(super) struct Tensors<'a> {
    tensors: SafeTensors<'a>,
    prefix: &'static str,
}

impl<'a> Tensors<'a> {
    pub(super) fn from_bytes(bytes: &'a [u8]) -> Result<Self, LoadError> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|error| LoadError::Malformed { file: "model.safetensors", reason: error.to_string() })?;
        let prefixed = tensors.names().iter().any(|name| name.starts_with("bert."));
        Ok(Self { tensors, prefix: if prefixed { "bert." } else { "" } })
    }

    /// The layer normalisation `name`.
    pub(super) fn norm(&self, name: &str, config: &BertConfig) -> Result<Norm, LoadError> {
        Ok(Norm {
            scale: self.get(&format!("{name}.weight"), &[config.hidden_size])?,
            shift: self.get(&format!("{name}.bias"), &[config.hidden_size])?,
            epsilon: config.layer_norm_eps,
        })
    }

    /// The name of a tensor of layer `index` of the encoder, or of one that follows it.
    pub(super) fn of_layer(&self, index: usize) -> Option<&str> {
        let layer_of = |name: &str| {
            let (layer, _) = name.strip_prefix(self.prefix)?.strip_prefix("encoder.layer.")?.split_once('.')?;
            layer.parse::<usize>().ok()
        };
        self.tensors.names().into_iter().filter(|name| layer_of(name).is_some_and(|layer| layer >= index)).min()
    }

    /// The tensor `name`, which must have exactly the shape `shape`, and only finite numbers: one that is not makes every
    /// embedding of the model worthless.
    pub(super) fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let name = format!("{}{name}", self.prefix);
        let malformed = |reason: String| LoadError::Malformed { file: "model.safetensors", reason };
        let tensor = self.tensors.tensor(&name).map_err(|error| malformed(error.to_string()))?;
        if tensor.shape() != shape {
            return Err(malformed(format!(
                "{name} has the shape {:?}, but config.json says {shape:?}",
                tensor.shape()
            )));
        }
        let bytes = tensor.data();
        let numbers = match tensor.dtype() {
            Dtype::F32 => numbers(bytes, f32::from_le_bytes),
            Dtype::BF16 => numbers(bytes, bf16_to_f32),
            Dtype::F16 => numbers(bytes, |half| rten_simd::f16::from_bits(u16::from_le_bytes(half)).to_f32()),
            other => return Err(malformed(format!("{name} is stored as {other:?}; supported are F32, F16 and BF16"))),
        };
        match first_not_finite(&numbers) {
            None => Ok(numbers),
            Some(at) => Err(malformed(format!("{name} has {} at {at}, expected finite numbers", numbers[at]))),
        }
    }
}

fn numbers<const BYTES: usize>(bytes: &[u8], convert: impl Fn([u8; BYTES]) -> f32) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<BYTES>();
    numbers.iter().map(|bytes| convert(*bytes)).collect()
}

/// Where the first number is that is not finite.
pub(crate) fn first_not_finite(numbers: &[f32]) -> Option<usize> {
    // All of them without a branch, for vector instructions: which one it is, is asked once in a model's life.
    let all_finite = numbers.iter().fold(true, |finite, number| finite & number.is_finite());
    if all_finite { None } else { numbers.iter().position(|number| !number.is_finite()) }
}

/// A bfloat16 is the upper half of an f32.
fn bf16_to_f32(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn checkpoint(name: &str, dtype: Dtype, bytes: &[u8]) -> Vec<u8> {
        let view = TensorView::new(dtype, vec![2], bytes).unwrap();
        safetensors::serialize([(name, view)], None).unwrap()
    }

    #[test]
    fn halves_become_f32() {
        let f16 = checkpoint("bert.x", Dtype::F16, &[0x00, 0x3c, 0x00, 0xc1]);
        assert_eq!(Tensors::from_bytes(&f16).unwrap().get("x", &[2]).unwrap(), [1.0, -2.5]);
        let bf16 = checkpoint("x", Dtype::BF16, &[0x80, 0x3f, 0x20, 0xc0]);
        assert_eq!(Tensors::from_bytes(&bf16).unwrap().get("x", &[2]).unwrap(), [1.0, -2.5]);
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused_by_name() {
        let f32 = |x: f32| [1.0, x].map(f32::to_le_bytes).concat();
        for (dtype, bytes, what) in [
            (Dtype::F32, f32(f32::NAN), "NaN"),
            (Dtype::F32, f32(f32::NEG_INFINITY), "-inf"),
            (Dtype::F16, vec![0, 0, 0, 0x7c], "inf"),
            (Dtype::BF16, vec![0, 0, 0x80, 0x7f], "inf"),
        ] {
            let bytes = checkpoint("bert.x", dtype, &bytes);
            let error = Tensors::from_bytes(&bytes).unwrap().get("x", &[2]).unwrap_err().to_string();
            assert_eq!(error, format!("model.safetensors: bert.x has {what} at 1, expected finite numbers"));
        }
    }

    #[test]
    fn another_shape_is_refused() {
        let bytes = checkpoint("x", Dtype::BF16, &[0; 4]);
        let error = Tensors::from_bytes(&bytes).unwrap().get("x", &[3]).unwrap_err();
        assert_eq!(error.to_string(), "model.safetensors: x has the shape [2], but config.json says [3]");
    }

    #[test]
    fn integers_are_refused() {
        let bytes = checkpoint("x", Dtype::I8, &[0; 2]);
        let error = Tensors::from_bytes(&bytes).unwrap().get("x", &[2]).unwrap_err();
        assert!(error.to_string().ends_with("x is stored as I8; supported are F32, F16 and BF16"), "{error}");
    }
}
