-- A hospital's results for the benches: {studies} studies, one every 94.608 s (a million in three years), the last of
-- them at the end of 2026-03-08. Every figure is drawn from the row's number: the same rows at every run.
SET session_replication_role = replica; -- no foreign key is looked up a million times: the numbers are ours
SET synchronous_commit = off;

CREATE FUNCTION pg_temp.draw(row_number bigint, salt int) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT (hashint8extended(row_number, salt) & 1048575) / 1048576.0::double precision $$;

-- One row a study, drawn once. OFFSET 0 keeps the planner from drawing again wherever a figure is used.
CREATE TEMP TABLE drawn AS
SELECT n, at, outcome, chance, said_again,
       CASE outcome WHEN 'present' THEN 0.6 + 0.4 * chance WHEN 'inconclusive' THEN 0.2 + 0.4 * chance
                    WHEN 'absent' THEN 0.2 * chance END AS probability
FROM (SELECT n, at, chance, said_again,
             CASE WHEN u < 0.12 THEN 'present' WHEN u < 0.18 THEN 'inconclusive' WHEN u < 0.20 THEN 'failed'
                  WHEN u < 0.25 THEN 'out_of_scope' ELSE 'absent' END AS outcome
      FROM (SELECT n, pg_temp.draw(n, 1) AS u, pg_temp.draw(n, 2) AS chance, pg_temp.draw(n, 3) AS said_again,
                   '2026-03-09 00:00:00+00'::timestamptz - ({studies} - n + 1) * interval '94.608 seconds' AS at
            FROM generate_series(1::bigint, {studies}) AS n OFFSET 0) AS figures OFFSET 0) AS outcomes;

INSERT INTO studies (id, study_instance_uid, patient_id, accession_number, study_date, state, source,
                     first_instance_at, last_instance_at, completed_at, revision)
SELECT n, '2.25.' || n, 'P-' || n % 400000, 'A-' || n, to_char(at, 'YYYYMMDD'), 'complete', 'push',
       at, at + interval '20 seconds', at + interval '50 seconds', 1
FROM drawn ORDER BY n;

-- Two images in every second study, one in the others; images 2n - 1 and 2n are of study n.
INSERT INTO instances (id, study_id, sop_instance_uid, sop_class_uid, series_instance_uid, transfer_syntax_uid,
                       patient_id, modality, body_part_examined, number_of_frames, out_of_scope_reason, path, digest,
                       size_bytes, calling_ae_title, peer_address, received_at)
SELECT 2 * n - image, n, '2.25.' || n || '.' || image, '1.2.840.10008.5.1.4.1.1.1.1', '2.25.' || n || '.5',
       '1.2.840.10008.1.2.1', 'P-' || n % 400000, (ARRAY['CR', 'DX'])[1 + n % 2],
       CASE WHEN n % 9973 = 0 THEN 'JAW'
            ELSE (ARRAY['HAND', 'WRIST', 'ANKLE', 'KNEE', 'SHOULDER', 'HIP', 'FOOT', 'ELBOW'])[1 + n % 8] END, 1,
       CASE outcome WHEN 'out_of_scope' THEN 'no radiograph' END,
       'instances/2.25.' || n || '/' || image || '.dcm', md5(image::text) || md5(n::text), 8000000 + n % 4000000,
       (ARRAY['PACS', 'PACS', 'PACS', 'EMERGENCY', 'WARD7'])[1 + n % 5], '10.0.0.' || n % 5,
       at + (1 - image) * interval '20 seconds'
FROM drawn, generate_series(0, 1) AS image WHERE image = 1 OR n % 2 = 0 ORDER BY n, image DESC;

-- Job n is the answer of the day. The newest {again} studies of before the next model came were analysed again by the next model.
INSERT INTO jobs (id, study_id, digest, model_version, lane, revision, state, attempts, last_image_at, created_at, enqueued_at,
                  started_at, finished_at, outcome, reason, probability, analysis_seconds, claimed_by)
SELECT n, n, md5(n::text) || md5(n::text),
       CASE WHEN at < '2026-02-25 00:00:00+00' THEN '{first}' ELSE '{second}' END, 'live', 1,
       CASE outcome WHEN 'failed' THEN 'failed' ELSE 'done' END, 1,
       CASE WHEN outcome <> 'out_of_scope' THEN at + interval '20 seconds' END, at + interval '50 seconds',
       at + interval '50 seconds', at + interval '51 seconds',
       at + interval '52 seconds' + chance * interval '60 seconds', outcome,
       CASE outcome WHEN 'failed' THEN (ARRAY['the pixel data is cut off', 'the image has one grey value only',
                                              'the transfer syntax is not supported'])[1 + n % 3]
                    WHEN 'out_of_scope' THEN 'no radiograph' END,
       probability, 0.5 + chance, 'worker-1'
FROM drawn ORDER BY n;

INSERT INTO jobs (id, study_id, digest, model_version, lane, revision, state, attempts, created_at, enqueued_at,
                  started_at, finished_at, outcome, reason, probability, analysis_seconds, claimed_by)
SELECT {studies} + n, n, md5(n::text) || md5(n::text), '{second}', 'archive', 1, 'done', 1, night, night, night, night,
       CASE WHEN said_again < 0.02 THEN 'present' WHEN said_again > 0.98 THEN 'absent' ELSE outcome END, NULL,
       CASE WHEN said_again < 0.02 THEN 0.7 WHEN said_again > 0.98 THEN 0.1 ELSE probability END, 0.8, 'worker-2'
FROM (SELECT *, '2026-02-27 22:00:00+00'::timestamptz + (n % {again}) * interval '2.8 seconds' AS night
      FROM drawn WHERE n > {studies} - 12000 - {again} AND n <= {studies} - 12000) AS past
WHERE outcome NOT IN ('failed', 'out_of_scope') ORDER BY n;

INSERT INTO image_results (id, job_id, instance_id, frame_number, outcome, probability, reason_code, reason,
                           analysis_seconds, classifier_probability, detector_score)
SELECT row_number() OVER (ORDER BY j.id, i.id), j.id, i.id, 1, j.outcome, j.probability,
       CASE j.outcome WHEN 'failed' THEN 'decode' END, j.reason, 0.6,
       CASE WHEN i.id % 50 = 0 THEN 1 - j.probability ELSE j.probability END, j.probability * 0.9
FROM jobs j JOIN instances i ON i.study_id = j.study_id WHERE j.outcome <> 'out_of_scope';

INSERT INTO findings (id, image_result_id, number, x1, y1, x2, y2, score)
SELECT row_number() OVER (), id, 1, 100, 200, 180, 290, 0.5 + probability / 2 FROM image_results
WHERE outcome = 'present';

INSERT INTO reports (id, job_id, sop_instance_uid, sop_class_uid, series_instance_uid, path, state, reason, built_at)
SELECT id, id, CASE WHEN id % 1000 <> 7 THEN '2.25.9' || id END, '1.2.840.10008.5.1.4.1.1.88.34', '2.25.8' || id,
       CASE WHEN id % 1000 <> 7 THEN 'reports/2.25.9' || id || '.dcm' END,
       CASE WHEN id % 1000 <> 7 THEN 'built' ELSE 'failed' END,
       CASE WHEN id % 1000 = 7 THEN 'the study has no date' END, finished_at
FROM jobs WHERE outcome <> 'out_of_scope' AND (lane = 'live' OR outcome = 'present');

INSERT INTO deliveries (id, report_id, destination, state, attempts, sop_instance_uid, sop_class_uid, transaction_uid,
                        commitment_requested_at, sent_at, committed_at, confirmed_by, reason)
SELECT r.id, r.id, 'pacs', state, 1, r.sop_instance_uid, r.sop_class_uid, '2.25.7' || r.id,
       CASE WHEN state <> 'failed' THEN r.built_at + interval '2 seconds' END,
       CASE WHEN state <> 'failed' THEN r.built_at + interval '1 second' END,
       CASE WHEN state = 'committed' THEN r.built_at + interval '3 seconds' END,
       CASE WHEN state = 'committed' THEN 'commitment' END,
       CASE state WHEN 'failed' THEN 'the peer refuses the SOP class' WHEN 'sent' THEN 'no answer yet' END
FROM (SELECT r.id, r.sop_instance_uid, r.sop_class_uid, r.built_at,
             CASE WHEN id % 2000 = 11 THEN 'failed'
                  WHEN id > {studies} - 120 AND id <= {studies} THEN 'sent' ELSE 'committed' END AS state
      FROM reports r WHERE state = 'built') AS r;

INSERT INTO events (id, at, kind, study_id, job_id, detail)
SELECT 4 * n - 4 + step, at + step * interval '20 seconds',
       (ARRAY['received_first', 'completed', 'queued', 'analysed'])[step], n, CASE WHEN step > 2 THEN n END, '{{}}'
FROM drawn, generate_series(1, 4) AS step;

-- A re-analysis that has gone through everything but the newest 500 studies.
INSERT INTO reanalysis_runs (id, source, direction, model_version, state, asked_by, created_at, night_studies, found,
                             planned)
VALUES (1, 'store', 'oldest', '{second}', 'running', 'night', '2026-02-27 22:00:00+00', 0, {studies}, {studies});

INSERT INTO reanalysis_items (id, run_id, study_instance_uid, job_id, state, found_at)
SELECT n, 1, '2.25.' || n, n, 'analysis', '2026-02-27 22:00:00+00'
FROM drawn ORDER BY n;

SELECT setval(pg_get_serial_sequence(name, 'id'), 10 * {studies})
FROM unnest(ARRAY['studies', 'instances', 'jobs', 'image_results', 'findings', 'reports', 'deliveries', 'events',
                  'reanalysis_runs', 'reanalysis_items']) AS name;
SET session_replication_role = DEFAULT;
