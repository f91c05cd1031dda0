-- The topic of an event as a number: it is one of two, and a merge copies a text byte by byte, row by row. Rows that others
-- wrote may name none.

ALTER TABLE events MODIFY COLUMN log_topic Enum8('' = 0, 'usage' = 1, 'usage.overflow' = 2);
