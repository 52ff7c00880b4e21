-- The registry, version 5: callbacks that are signed or compressed.

ALTER TABLE channels ADD COLUMN signing BLOB;  -- JSON of model.Signing; NULL: they are not signed
ALTER TABLE channels ADD COLUMN is_gzipped INTEGER NOT NULL DEFAULT 0;
