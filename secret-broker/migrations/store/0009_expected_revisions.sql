-- The revision that an operation's dataset must have when it is submitted, where its caller said which.
ALTER TABLE operations ADD COLUMN expected_revision INTEGER;
