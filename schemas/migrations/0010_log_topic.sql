-- The topic of an event as a number: it is one of two, and a merge copies a text byte by byte, row by row. What is stored
-- is read as the new type at once, and rewritten in the background.

ALTER TABLE events MODIFY COLUMN log_topic Enum8('usage' = 1, 'usage.overflow' = 2);
