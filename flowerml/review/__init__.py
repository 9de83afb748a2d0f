"""The label-cleaning page: findings and mistakes as cards, and the table that the decisions on them are kept in."""
