-- {studies} studies for the bench of the worklist, one every 94 s, the last of them on 2026-03-09; one image, one answer,
-- one committed report each. One body part and one outcome are rare.
INSERT INTO studies (id, study_instance_uid, patient_id, accession_number, study_date, state, source,
                     first_instance_at, last_instance_at, completed_at, revision)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {studies}),
     dated(n, at) AS (SELECT n, datetime('2026-03-09', '-' || (({studies} - n) * 94) || ' seconds') FROM numbers)
SELECT n, '2.25.' || n, 'P-' || (n % 400000), 'A-' || n, '20260309', 'complete', 'push', at, at, at, 1 FROM dated;

INSERT INTO instances (id, study_id, sop_instance_uid, sop_class_uid, series_instance_uid, transfer_syntax_uid, modality,
                       body_part_examined, number_of_frames, path, digest, size_bytes, calling_ae_title, peer_address,
                       received_at)
SELECT id, id, '2.25.1' || id, '1.2', '2.25.2' || id, '1.2', 'DX',
       CASE WHEN id % 9973 = 0 THEN 'JAW' WHEN id % 3 = 0 THEN 'HAND' ELSE 'KNEE' END,
       1, '', '', 1, 'PACS', 'host', first_instance_at FROM studies;

INSERT INTO jobs (id, study_id, digest, model_version, lane, revision, state, attempts, created_at, started_at,
                  finished_at, outcome, probability)
SELECT id, id, '', '2026-02', 'live', 1, 'done', 1, first_instance_at, first_instance_at, first_instance_at,
       CASE WHEN id % 10007 = 0 THEN 'failed' WHEN id % 8 = 0 THEN 'present' WHEN id % 17 = 0 THEN 'inconclusive'
            ELSE 'absent' END, 0.5 FROM studies;

INSERT INTO image_results (job_id, instance_id, frame_number, outcome, probability)
SELECT id, id, 1, outcome, 0.5 FROM jobs;

INSERT INTO reports (id, job_id, state, built_at) SELECT id, id, 'built', finished_at FROM jobs;

INSERT INTO deliveries (report_id, destination, state, attempts, committed_at)
SELECT id, 'pacs', 'committed', 1, built_at FROM reports;

ANALYZE;
