//! Tables of samples.

use std::fmt;

/// One figure, measured several times.
#[derive(Debug, Default, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn add(&mut self, sample: f64) {
        self.0.push(sample);
        self.0.sort_by(f64::total_cmp);
    }

    pub fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }
}

/// Figures of several engines: least, median and greatest, and the median as a multiple of that of
/// the engine that all are compared with.
pub struct Table {
    titles: Vec<String>,
    compared_with: &'static str,
    rows: Vec<(String, Vec<Samples>)>,
}

impl Table {
    pub fn new(titles: &[&str], compared_with: &'static str) -> Self {
        let titles = titles.iter().map(|title| (*title).to_owned()).collect();
        Self { titles, compared_with, rows: Vec::new() }
    }

    pub fn add(&mut self, name: &str, column: usize, sample: f64) {
        let at = match self.rows.iter().position(|(row, _)| row == name) {
            Some(at) => at,
            None => {
                self.rows.push((name.to_owned(), vec![Samples::default(); self.titles.len()]));
                self.rows.len() - 1
            }
        };
        self.rows[at].1[column].add(sample);
    }
}

/// Three digits that say something.
fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "-".to_owned(),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 0.1 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| |")?;
        for title in &self.titles {
            write!(f, " {title} | ratio |")?;
        }
        write!(f, "\n|---|{}", "---|---|".repeat(self.titles.len()))?;
        let reference = self.rows.iter().find(|(name, _)| name.starts_with(self.compared_with));
        for (name, columns) in &self.rows {
            write!(f, "\n| {name} |")?;
            for (column, samples) in columns.iter().enumerate() {
                let (min, median, max) = (samples.min(), samples.median(), samples.max());
                let ratio = reference.map_or(f64::NAN, |(_, all)| median / all[column].median());
                let (min, middle, max) = (number(min), number(median), number(max));
                write!(f, " {min} / {middle} / {max} | {} |", number(ratio))?;
            }
        }
        writeln!(f)
    }
}
