//! The one table: a row for each figure, a column for each server, and the ratios.

use std::{collections::BTreeMap, fmt};

use crate::peer::Kind;

/// Rows as they were measured.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

/// One row of the table of figures.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) values: BTreeMap<Kind, f64>,
    pub(crate) target: Target,
}

/// What tabmux should reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    None,
    /// The figure must be at most this.
    AtMost(f64),
    /// At most this times the floor.
    OfFloor(f64),
}

const COLUMNS: [Kind; 4] = [Kind::Tabmux, Kind::Floor, Kind::Ws, Kind::Axum];

impl Table {
    pub(crate) fn push(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        target: Target,
        values: impl IntoIterator<Item = (Kind, f64)>,
    ) {
        let row = Row { name: name.into(), unit, values: values.into_iter().collect(), target };
        // A long run tells its figures as it goes.
        eprintln!("     {}, {}: {}", row.name, row.unit, row.brief());
        self.0.push(row);
    }
}

impl Row {
    fn brief(&self) -> String {
        let values = self.values.iter().map(|(kind, value)| format!("{kind} {}", digits(*value)));
        values.collect::<Vec<_>>().join(", ")
    }

    fn cell(&self, kind: Kind) -> String {
        self.values.get(&kind).map_or("–".to_owned(), |value| digits(*value))
    }

    fn ratio(&self, to: Kind) -> Option<f64> {
        let (own, other) = (self.values.get(&Kind::Tabmux)?, self.values.get(&to)?);
        (*other > 0.0).then(|| own / other)
    }

    /// The target, and by how much it is missed.
    fn verdict(&self) -> String {
        let own = self.values.get(&Kind::Tabmux);
        let (text, part) = match self.target {
            Target::None => return String::new(),
            Target::AtMost(most) => (format!("{most}"), own.map(|own| own / most)),
            Target::OfFloor(most) => {
                (format!("{most} × floor"), self.ratio(Kind::Floor).map(|ratio| ratio / most))
            }
        };
        match part {
            None => text,
            Some(part) if part <= 1.0 => format!("{text}: met"),
            Some(part) => format!("{text}: missed by {:.0} %", (part - 1.0) * 100.0),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = COLUMNS.map(|kind| kind.to_string()).join(" | ");
        writeln!(f, "| what | unit | {names} | to floor | to `ws` | target |")?;
        writeln!(f, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")?;
        for row in &self.0 {
            let cells = COLUMNS.map(|kind| row.cell(kind)).join(" | ");
            let [floor, ws] = [Kind::Floor, Kind::Ws].map(|kind| {
                row.ratio(kind).map_or("–".to_owned(), |ratio| format!("{ratio:.2}"))
            });
            let (name, unit, verdict) = (&row.name, row.unit, row.verdict());
            writeln!(f, "| {name} | {unit} | {cells} | {floor} | {ws} | {verdict} |")?;
        }
        Ok(())
    }
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(target: Target) -> Row {
        let values = BTreeMap::from([(Kind::Tabmux, 3.0), (Kind::Floor, 2.0)]);
        Row { name: String::new(), unit: "", values, target }
    }

    #[test]
    fn a_target_says_by_how_much_it_is_missed() {
        assert_eq!(row(Target::None).verdict(), "");
        assert_eq!(row(Target::AtMost(3.0)).verdict(), "3: met");
        assert_eq!(row(Target::AtMost(2.0)).verdict(), "2: missed by 50 %");
        assert_eq!(row(Target::OfFloor(1.2)).verdict(), "1.2 × floor: missed by 25 %");
    }

    #[test]
    fn numbers_have_three_digits() {
        let values = [0.0, 0.1234, 1.234, 12.34, 123.4, 1234.5];
        assert_eq!(values.map(digits), ["0", "0.123", "1.23", "12.3", "123", "1234"]);
    }
}
