//! How many bytes a model has in memory, told by the head of its weights: before they are read, and whatever they are
//! stored as. What each tensor becomes, the encoder says.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::registry::LocalSpec;
use crate::encoder::{Encoder, Precision};

/// More is no head: the format allows no more either.
const HEAD_BYTES_MAX: u64 = 100_000_000;

/// Bytes of the model in `folder`, once it is loaded: weights, and the tokenizer's file. Of weights that cannot be
/// understood, those of the file: loading them will say what is wrong.
pub(super) fn bytes_in_memory(folder: &Path, precision: Precision) -> usize {
    let [_, tokenizer, weights] = LocalSpec::FILES.map(|name| folder.join(name));
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX));
    let weights_bytes = match read_head(&weights) {
        Ok(Some(head)) => weights_bytes(&head, precision),
        Ok(None) | Err(_) => bytes(&weights),
    };
    weights_bytes.saturating_add(bytes(&tokenizer))
}

/// The head of a file in the format safetensors (https://huggingface.co/docs/safetensors): its length as 8 bytes, least
/// significant first, then JSON.
fn read_head(path: &Path) -> io::Result<Option<Metadata>> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > HEAD_BYTES_MAX.min(file.metadata()?.len()) {
        return Ok(None);
    }
    let mut head = Vec::new();
    file.take(length).read_to_end(&mut head)?;
    Ok(serde_json::from_slice(&head).ok())
}

fn weights_bytes(head: &Metadata, precision: Precision) -> usize {
    let tensors = head.tensors();
    let numbers = tensors.iter().filter(|(_, tensor)| matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16));
    let bytes = numbers.map(|(name, tensor)| Encoder::tensor_bytes(name, &tensor.shape, precision));
    bytes.fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn bytes(dtype: Dtype, number_bytes: usize, precision: Precision) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let numbers = vec![0; 64 * 32 * number_bytes];
        let tensor = |shape: &[usize]| {
            let bytes = shape.iter().product::<usize>() * number_bytes;
            TensorView::new(dtype, shape.to_vec(), &numbers[..bytes]).unwrap()
        };
        let tensors = [
            ("bert.embeddings.word_embeddings.weight", tensor(&[64, 32])),
            ("bert.encoder.layer.0.output.dense.weight", tensor(&[64, 32])),
            ("bert.encoder.layer.0.attention.self.key.weight", tensor(&[32, 32])),
            ("bert.encoder.layer.0.attention.output.dense.weight", tensor(&[32, 32])),
            ("bert.encoder.layer.0.output.dense.bias", tensor(&[64])),
            ("bert.pooler.dense.weight", tensor(&[32, 32])),
        ];
        let file = safetensors::serialize(tensors, None).unwrap();
        fs::write(folder.path().join("model.safetensors"), file).unwrap();
        fs::write(folder.path().join("tokenizer.json"), [0; 1000]).unwrap();
        bytes_in_memory(folder.path(), precision)
    }

    #[test]
    fn numbers_count_as_they_are_kept_not_as_they_are_stored() {
        let f32 = 4 * (64 * 32 + 64 * 32 + 2 * 32 * 32 + 64) + 1000;
        assert_eq!(bytes(Dtype::F32, 4, Precision::F32), f32);
        assert_eq!(bytes(Dtype::F16, 2, Precision::F32), f32);
        assert_eq!(bytes(Dtype::BF16, 2, Precision::F32), f32);
        // In words two of the products, and in bytes the third.
        let products = 2 * (64 * 32 + 32 * 32) + 32 * 32 + 8 * (64 + 32 + 32);
        assert_eq!(bytes(Dtype::F16, 2, Precision::Int8), 4 * (64 * 32 + 64) + products + 1000);
    }

    #[test]
    fn weights_that_are_none_count_as_their_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.safetensors"), "<html>please log in</html>").unwrap();
        assert_eq!(bytes_in_memory(folder.path(), Precision::F32), 26);
    }
}
