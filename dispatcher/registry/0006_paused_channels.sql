-- The registry, version 6: channels that the operator paused.

ALTER TABLE channels ADD COLUMN is_paused INTEGER NOT NULL DEFAULT 0;
