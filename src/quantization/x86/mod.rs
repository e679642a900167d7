//! The kernels with AVX2 and AVX-512. Each equals its scalar definition: whole numbers exactly, others up to rounding.

mod bits;
mod codes;
mod rotation;

use super::Kernels;

/// The AVX2 kernels, where the processor has them.
pub(super) fn avx2() -> Option<Kernels> {
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Kernels {
        name: "avx2",
        // SAFETY: the features that the kernels are compiled for were just detected.
        dot_codes: |queries, rows, width, out| unsafe { codes::dot_avx2(queries, rows, width, out) },
        // SAFETY: as above.
        encode: |vector, inverse, codes| unsafe { codes::encode_avx2(vector, inverse, codes) },
        // SAFETY: as above.
        estimate: |query, group, out| unsafe { bits::estimate_avx2(query, group, out) },
        // SAFETY: as above.
        tabulate: |query, inverse, table| unsafe { bits::tabulate_avx2(query, inverse, table) },
        // SAFETY: as above.
        residual: |center, vector, signs| unsafe { bits::residual_avx2(center, vector, signs) },
        // SAFETY: as above.
        transform: |window, scale| unsafe { rotation::transform_avx2(window, scale) },
    })
}

/// The AVX-512 kernels, where the processor has them.
pub(super) fn avx512() -> Option<Kernels> {
    let is_there = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    is_there.then_some(Kernels {
        name: "avx512",
        // SAFETY: the features that the kernels are compiled for were just detected.
        dot_codes: |queries, rows, width, out| unsafe { codes::dot_avx512(queries, rows, width, out) },
        // SAFETY: as above.
        encode: |vector, inverse, codes| unsafe { codes::encode_avx512(vector, inverse, codes) },
        // SAFETY: as above.
        estimate: |query, group, out| unsafe { bits::estimate_avx512(query, group, out) },
        // SAFETY: as above.
        tabulate: |query, inverse, table| unsafe { bits::tabulate_avx512(query, inverse, table) },
        // SAFETY: as above.
        residual: |center, vector, signs| unsafe { bits::residual_avx512(center, vector, signs) },
        // SAFETY: as above.
        transform: |window, scale| unsafe { rotation::transform_avx512(window, scale) },
    })
}
