use crate::types::{Dimension, Metric, Space, SpaceName};

/// The space that raw vectors of a dimension get where nobody named one: `raw-384`, compared by cosine.
pub fn raw_space(dimension: Dimension) -> Space {
    let name = SpaceName::new(&format!("raw-{dimension}")).expect("letters, a hyphen and digits are a name");
    Space { name, dimension, metric: Metric::Cosine, text_model: None }
}
