//! Medians over the rounds of a comparison, as rows of a table.

/// Figures of one broker under one load, one entry per round and column.
pub(crate) struct Medians {
    columns: &'static [&'static str],
    rows: Vec<(String, Vec<Vec<f64>>)>,
}

impl Medians {
    pub(crate) fn new(columns: &'static [&'static str]) -> Self {
        Medians { columns, rows: Vec::new() }
    }

    /// Takes one round of `broker` in.
    pub(crate) fn add(&mut self, broker: &str, figures: &[f64]) {
        if !self.rows.iter().any(|(name, _)| name == broker) {
            self.rows.push((broker.to_owned(), vec![Vec::new(); self.columns.len()]));
        }
        let row = self.rows.iter_mut().find(|(name, _)| name == broker);
        for (column, figure) in row.into_iter().flat_map(|(_, columns)| columns).zip(figures) {
            column.push(*figure);
        }
    }

    /// A table in Markdown; each cell is the median of the rounds.
    pub(crate) fn table(mut self) -> String {
        let mut text =
            format!("| | {} |\n|---|{}\n", self.columns.join(" | "), "---|".repeat(self.columns.len()));
        for (name, columns) in &mut self.rows {
            let cells: Vec<String> = columns.iter_mut().map(|column| shown(median(column))).collect();
            text += &format!("| {name} | {} |\n", cells.join(" | "));
        }
        text
    }
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

/// Three digits are as many as mean anything.
fn shown(figure: f64) -> String {
    if figure >= 100.0 {
        format!("{figure:.0}")
    } else if figure >= 10.0 {
        format!("{figure:.1}")
    } else {
        format!("{figure:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cell_is_the_median_of_its_rounds() {
        let mut medians = Medians::new(&["a", "b"]);
        for round in [[1.0, 300.0], [9.0, 100.0], [2.0, 200.0]] {
            medians.add("x", &round);
        }
        assert_eq!(medians.table(), "| | a | b |\n|---|---|---|\n| x | 2.00 | 200 |\n");
    }
}
