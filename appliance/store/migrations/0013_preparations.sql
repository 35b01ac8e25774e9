-- Of a model, JSON by precision: checkpoints that the appliance made of the one that was uploaded.
ALTER TABLE models ADD COLUMN preparations TEXT NOT NULL DEFAULT '{}';
