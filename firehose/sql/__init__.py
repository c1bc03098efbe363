"""People's own SQL over records: the engine with its doors shut, records as a table, results that know their record."""
