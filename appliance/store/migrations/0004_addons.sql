ALTER TABLE models ADD COLUMN base_model TEXT; -- a name: what an addon changes

ALTER TABLE models ADD COLUMN addon_info TEXT; -- JSON of AddonInfo

ALTER TABLE deployed_models ADD COLUMN has_failed INTEGER NOT NULL DEFAULT 0;

-- A deployment serves a model once, whatever two requests ask for at the same moment.
CREATE UNIQUE INDEX deployed_models_once ON deployed_models (deployment, model)
WHERE state IN ('DEPLOYING', 'DEPLOYED');
