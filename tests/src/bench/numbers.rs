//! Quantiles, a line through points, and text for people.

use std::{fmt, time::Duration};

/// How long something took, many times.
#[derive(Debug, Default)]
pub(super) struct Timings(Vec<Duration>);

impl Timings {
    pub(super) fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// What a share of them took at most: the nearest rank, so always something that was measured.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (1..=sorted.len()).find(|rank| *rank as f64 >= share * sorted.len() as f64);
        rank.map_or(Duration::ZERO, |rank| sorted[rank - 1])
    }

    pub(super) fn p50(&self) -> Duration {
        self.quantile(0.5)
    }

    pub(super) fn slowest(&self) -> Option<Duration> {
        self.0.iter().max().copied()
    }

    pub(super) fn p99(&self) -> Duration {
        self.quantile(0.99)
    }
}

impl FromIterator<Duration> for Timings {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Self {
        Self(durations.into_iter().collect())
    }
}

/// p50, p99 and p99.9 in columns.
impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for share in [0.5, 0.99, 0.999] {
            write!(f, "{:>10.2}", ms(self.quantile(share)))?;
        }
        Ok(())
    }
}

pub(super) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

pub(super) fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The line nearest to the points by least squares: where it starts, and how steep it is.
pub(super) fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = covariance / variance;
    (y - slope * x, slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_nearest_rank() {
        let timings: Timings = (1..=1_000).rev().map(Duration::from_millis).collect();
        let at = |share| timings.quantile(share).as_millis();
        assert_eq!((at(0.5), at(0.99), at(0.999), at(1.0)), (500, 990, 999, 1_000));
        assert_eq!(Timings::default().p50(), Duration::ZERO);
    }

    #[test]
    fn a_line_goes_through_points_that_lie_on_one() {
        let (start, slope) = line(&[(1.0, 5.0), (10.0, 23.0), (50.0, 103.0)]);
        assert!((start - 3.0).abs() < 1e-9 && (slope - 2.0).abs() < 1e-9, "{start} {slope}");
    }
}
