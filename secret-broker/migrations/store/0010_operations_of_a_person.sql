-- Whoever comes again is told of their latest operations.
CREATE INDEX operations_of_a_person ON operations (submitter, sequence);
