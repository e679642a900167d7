//! The definition of every kernel, written so that the compiler can vectorise it.

use super::Kernels;
use super::bits::{Estimates, GROUP_ROWS, Neighborhood, Residual};

pub(super) const KERNELS: Kernels =
    Kernels { name: "scalar", dot_codes, encode, estimate, tabulate, residual, transform };

fn dot_codes(queries: &[i8], rows: &[u8], width: usize, out: &mut [i32]) {
    let row_count = super::kernels::check(queries, rows, width, out);
    for (query, out) in queries.chunks_exact(width).zip(out.chunks_exact_mut(row_count.max(1))) {
        for (row, out) in rows.chunks_exact(width).zip(out) {
            *out = query.iter().zip(row).map(|(&q, &r)| i32::from(q) * (i32::from(r) - 128)).sum();
        }
    }
}

/// In the order of the sums of every other kernel: whole numbers first, so that there is nothing to round but the end.
fn estimate(query: &Estimates<'_>, group: &Neighborhood<'_>, out: &mut [f32; GROUP_ROWS]) {
    assert_eq!(query.table.len(), group.codes.len(), "a group of the query's width");
    let mut sums = [0_u32; GROUP_ROWS];
    let (tables, _) = query.table.as_chunks::<16>();
    let (codes, _) = group.codes.as_chunks::<16>();
    for (table, codes) in tables.iter().zip(codes) {
        for (byte, &code) in codes.iter().enumerate() {
            let place = byte / 2 + byte % 2 * 8;
            sums[place] += u32::from(table[usize::from(code & 15)]);
            sums[place + 16] += u32::from(table[usize::from(code >> 4)]);
        }
    }
    for (place, out) in out.iter_mut().enumerate() {
        let dot = query.step * sums[place] as f32 + query.base;
        *out = query.center + group.constants[place] + group.slopes[place] * dot;
    }
}

fn residual(center: &[f32], vector: &[f32], signs: &mut [u8]) -> Residual {
    let mut sums = [[0.0_f32; 8]; 3];
    let eights = vector.as_chunks::<8>().0.iter().zip(center.as_chunks::<8>().0);
    for ((x, c), signs) in eights.zip(signs) {
        for lane in 0..8 {
            let residual = x[lane] - c[lane];
            let is_negative = residual < 0.0;
            *signs |= u8::from(!is_negative) << lane;
            sums[0][lane] += residual * residual;
            sums[1][lane] += residual.abs();
            sums[2][lane] += if is_negative { -c[lane] } else { c[lane] };
        }
    }
    let [square, absolute, center] = sums.map(|sums| sums.iter().sum());
    Residual { square, absolute, center }
}

fn encode(vector: &[f32], inverse: f32, codes: &mut [u8]) {
    assert_eq!(vector.len(), codes.len(), "a code for each component");
    vector.iter().zip(codes).for_each(|(&x, code)| *code = self::code(x, inverse));
}

/// The code of one component.
#[inline(always)]
pub(super) fn code(x: f32, inverse: f32) -> u8 {
    ((x * inverse).round_ties_even() as i32 + 128) as u8
}

fn tabulate(query: &[f32], inverse: f32, table: &mut [u8]) {
    assert_eq!(table.len(), 4 * query.len(), "16 entries for every four components");
    for (four, entries) in query.as_chunks::<4>().0.iter().zip(table.as_chunks_mut::<16>().0) {
        let least: f32 = four.iter().map(|x| x.abs()).sum();
        for (signs, entry) in entries.iter_mut().enumerate() {
            let signed = four.iter().enumerate().map(|(bit, &x)| if signs >> bit & 1 == 1 { x } else { -x });
            *entry = (signed.fold(least, |sum, x| sum + x) * inverse).round_ties_even() as u8;
        }
    }
}

fn transform(window: &mut [f32], scale: f32) {
    for sixteen in window.as_chunks_mut::<16>().0 {
        let mut x = sixteen.map(|x| x * scale);
        for stride in [1, 2, 4, 8] {
            let before = x;
            for lane in 0..16 {
                let other = before[lane ^ stride];
                x[lane] = if lane & stride == 0 { before[lane] + other } else { other - before[lane] };
            }
        }
        *sixteen = x;
    }
    let mut stride = 16;
    while stride < window.len() {
        for pair in window.chunks_exact_mut(2 * stride) {
            let (low, high) = pair.split_at_mut(stride);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        stride *= 2;
    }
}
