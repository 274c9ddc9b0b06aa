//! Tables for people: columns as wide as their widest cell, two blanks between them.

/// A table with its head; nothing but the head if there are no rows.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let heads: Vec<String> = head.iter().map(|title| title.to_uppercase()).collect();
    let mut widths: Vec<usize> = heads.iter().map(|title| width(title)).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&heads).chain(&rows) {
        let mut line = String::new();
        for (cell, widest) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(widest - width(cell) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names and values, one a line; those without a value are left out.
pub(super) fn lines(fields: &[(&str, String)]) -> String {
    let widest = fields.iter().map(|(name, _)| width(name)).max().unwrap_or_default();
    let given = fields.iter().filter(|(_, value)| !value.is_empty());
    given.map(|(name, value)| format!("{name:widest$}  {}\n", one_line(value))).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// A cell may hold what somebody else wrote: it must not break the line, nor speak to the terminal.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [
            vec!["a".to_owned(), "long\u{1b}[1m\nvalue".to_owned()],
            vec!["ümläut".to_owned(), String::new()],
        ];
        assert_eq!(table(&["id", "name"], &rows), "ID      NAME\na       long [1m value\nümläut\n");
        assert_eq!(table(&["id"], &[]), "ID\n");
        assert_eq!(
            lines(&[("a", "1".to_owned()), ("none", String::new()), ("bcd", "2".to_owned())]),
            "a     1\nbcd   2\n"
        );
    }
}
