CREATE OR REPLACE FUNCTION end_usage_until(workspace_id uuid, source text DEFAULT NULL::text, every_source boolean DEFAULT false)
 RETURNS bigint
 LANGUAGE sql
 SECURITY DEFINER
BEGIN ATOMIC
 WITH ended AS (
          DELETE FROM set_aside_usage u
           WHERE (u.ctid = ANY (ARRAY( SELECT h.ctid
                    FROM set_aside_usage h
                   WHERE ((h.workspace_id = end_usage_until.workspace_id) AND (h.reason = 'until'::text) AND (h.period_end > clock_timestamp()) AND (COALESCE(end_usage_until.every_source, false) OR ((h.source)::text = COALESCE(end_usage_until.source, "left"(COALESCE(NULLIF(current_setting('application_name'::text), ''::text), 'unknown'::text), 63)))))
                  FOR UPDATE OF h SKIP LOCKED)))
           RETURNING u.workspace_id,
             u.source,
             u.used_from
         ), kept AS (
          INSERT INTO set_aside_usage (period_end, workspace_id, source, reason, next_attempt_at, used_from)  SELECT clock_timestamp() AS clock_timestamp,
                     e.workspace_id,
                     e.source,
                     'until',
                     clock_timestamp() AS clock_timestamp,
                     e.used_from
                    FROM ended e ON CONFLICT DO NOTHING
         )
  SELECT count(*) AS count
    FROM ended;
END
;

CREATE OR REPLACE FUNCTION mark_usage_until(workspace_id uuid, until timestamp with time zone, source text DEFAULT NULL::text)
 RETURNS timestamp with time zone
 LANGUAGE sql
 SECURITY DEFINER
BEGIN ATOMIC
 SELECT refuse_usage_until(until, usage_until_limit(), COALESCE(source, "left"(COALESCE(NULLIF(current_setting('application_name'::text), ''::text), 'unknown'::text), 63))) AS refuse_usage_until;
 INSERT INTO pending_usage (workspace_id, source)
   VALUES (mark_usage_until.workspace_id, COALESCE(mark_usage_until.source, "left"(COALESCE(NULLIF(current_setting('application_name'::text), ''::text), 'unknown'::text), 63))) ON CONFLICT DO NOTHING;
 WITH earlier AS MATERIALIZED (
          SELECT u.ctid AS place,
             u.period_end,
             u.used_from
            FROM set_aside_usage u
           WHERE ((u.workspace_id = mark_usage_until.workspace_id) AND ((u.source)::text = COALESCE(mark_usage_until.source, "left"(COALESCE(NULLIF(current_setting('application_name'::text), ''::text), 'unknown'::text), 63))) AND (u.reason = 'until'::text) AND (u.period_end > clock_timestamp()))
          FOR UPDATE OF u SKIP LOCKED
         ), replaced AS (
          DELETE FROM set_aside_usage u
           WHERE (u.ctid = ANY (ARRAY( SELECT e.place
                    FROM earlier e
                   WHERE (e.period_end < mark_usage_until.until))))
         )
  INSERT INTO set_aside_usage (period_end, workspace_id, source, reason, next_attempt_at, used_from)  SELECT mark_usage_until.until AS period_end,
             mark_usage_until.workspace_id AS workspace_id,
             COALESCE(mark_usage_until.source, "left"(COALESCE(NULLIF(current_setting('application_name'::text), ''::text), 'unknown'::text), 63)) AS source,
             'until' AS reason,
             mark_usage_until.until AS next_attempt_at,
             LEAST(clock_timestamp(), ( SELECT min(e.used_from) AS min
                    FROM earlier e
                   WHERE (e.period_end < mark_usage_until.until))) AS used_from
           WHERE (NOT (EXISTS ( SELECT
                    FROM earlier e
                   WHERE (e.period_end >= mark_usage_until.until)))) ON CONFLICT DO NOTHING;
 SELECT max(u.period_end) AS max
    FROM set_aside_usage u
   WHERE ((u.workspace_id = mark_usage_until.workspace_id) AND ((u.source)::text = COALESCE(mark_usage_until.source, "left"(COALESCE(NULLIF(current_setting('application_name'::text), ''::text), 'unknown'::text), 63))) AND (u.reason = 'until'::text));
END
;

CREATE OR REPLACE FUNCTION no_hidden_usage(view_name name, tables regclass[])
 RETURNS TABLE(workspace_id uuid, last_used_at timestamp with time zone, source text, pending boolean)
 LANGUAGE plpgsql
 STABLE PARALLEL SAFE ROWS 1
AS $function$
    DECLARE
      reader oid;
      hidden record;
    BEGIN
      IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_class c WHERE c.oid = ANY (tables) AND (c.relrowsecurity OR c.relkind = 'v')
      ) THEN
        RETURN;
      END IF;
      SELECT CASE WHEN coalesce(c.reloptions::text, '') ~ 'security_invoker=(true|on|yes|1)' THEN to_regrole(quote_ident(current_user)) ELSE c.relowner END INTO reader
      FROM pg_catalog.pg_class c
      WHERE c.relname = view_name
        AND c.relnamespace = (SELECT t.relnamespace FROM pg_catalog.pg_class t WHERE t.oid = tables[1]);
      WITH RECURSIVE read (relation, role) AS (
        SELECT c.oid, reader FROM pg_catalog.pg_class c WHERE c.oid = ANY (tables)
        UNION
        SELECT d.refobjid, CASE WHEN coalesce(c.reloptions::text, '') ~ 'security_invoker=(true|on|yes|1)' THEN read.role ELSE c.relowner END
        FROM read
        JOIN pg_catalog.pg_class c ON c.oid = read.relation AND c.relkind = 'v'
        JOIN pg_catalog.pg_rewrite rule ON rule.ev_class = c.oid
        JOIN pg_catalog.pg_depend d
          ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = rule.oid
          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> c.oid
      )
      SELECT c.relname AS table_name, r.rolname AS role_name INTO hidden
      FROM read
      JOIN pg_catalog.pg_class c ON c.oid = read.relation
      JOIN pg_catalog.pg_roles r ON r.oid = read.role
      WHERE c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
        AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'))
      LIMIT 1;
      IF FOUND THEN
        RAISE insufficient_privilege USING
          MESSAGE = format(
            'row-level security of table "%s" may hide rows from role "%s", with whose rights view "%s" reads',
            hidden.table_name, hidden.role_name, view_name
          ),
          HINT = 'Let the role inherit from the owner of the table, without FORCE ROW LEVEL SECURITY, or ALTER ROLE … BYPASSRLS.',
          TABLE = hidden.table_name,
          CONSTRAINT = 'no_hidden_usage';
      END IF;
    END
    $function$
;

CREATE OR REPLACE FUNCTION noted_usage_periods()
 RETURNS timestamp with time zone[]
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN ARRAY(SELECT pending_usage_period.period_end FROM pending_usage_period)
;

CREATE OR REPLACE FUNCTION pending_usage_server(OUT system_identifier text, OUT timeline text)
 RETURNS record
 LANGUAGE plpgsql
AS $function$
    BEGIN
      BEGIN
        system_identifier := (SELECT s.system_identifier FROM pg_catalog.pg_control_system() s);
      EXCEPTION WHEN OTHERS THEN
      END;
      BEGIN
        timeline := pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8);
      EXCEPTION WHEN OTHERS THEN
      END;
    END
    $function$
;

CREATE OR REPLACE FUNCTION refuse_usage_until(until timestamp with time zone, longest interval, source text)
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    DECLARE
      present constant timestamptz := clock_timestamp();
      -- A day of an interval may have 23 hours.
      latest constant timestamptz := present + date_part('epoch', longest) * interval '1 second';
    BEGIN
      IF until IS NULL OR until <= present OR until > latest THEN
        RAISE invalid_parameter_value USING
          MESSAGE = format('a workspace can''t be in use until %s', coalesce(until::text, 'NULL')),
          DETAIL = format('It must be after now (%s) and not after %s.', present, latest),
          HINT = 'Call again later to prolong the use, or let the owner run workspace-usage migrate --until-limit.',
          CONSTRAINT = 'usage_until',
          COLUMN = to_char(latest AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
      END IF;
      IF char_length(source) NOT BETWEEN 1 AND 63 THEN
        RAISE invalid_parameter_value USING
          MESSAGE = format('"%s" is no source', source),
          DETAIL = 'A source has 1 to 63 characters.',
          CONSTRAINT = 'usage_source';
      END IF;
      RETURN present;
    END
    $function$
;

CREATE OR REPLACE FUNCTION usage_complete_since()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE PARALLEL SAFE SECURITY DEFINER
BEGIN ATOMIC
 SELECT
         CASE
             WHEN (NOT (EXISTS ( SELECT
                FROM pending_usage_witness))) THEN statement_timestamp()
             WHEN (EXISTS ( SELECT
                FROM pending_usage_place p
               WHERE (p.noted AND (EXISTS ( SELECT
                        FROM source_usage)) AND ((p.anchor <> ( SELECT (a.xmin)::text AS xmin
                        FROM pending_usage_place a
                       WHERE (NOT a.noted))) OR (p.database_oid <> ( SELECT d.oid
                        FROM pg_database d
                       WHERE (d.datname = current_database()))))))) THEN statement_timestamp()
             ELSE COALESCE(( SELECT max(r.noticed_at) AS max
                FROM pending_usage_reset r), '-infinity'::timestamp with time zone)
         END AS complete_since;
END
;

CREATE OR REPLACE FUNCTION usage_period()
 RETURNS interval
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN '00:00:30'::interval
;

CREATE OR REPLACE FUNCTION usage_period_end()
 RETURNS timestamp with time zone
 LANGUAGE sql
 PARALLEL SAFE
RETURN (date_bin(((EXTRACT(epoch FROM usage_period()))::double precision * '00:00:01'::interval), clock_timestamp(), to_timestamp((0)::double precision)) + ((EXTRACT(epoch FROM usage_period()))::double precision * '00:00:01'::interval))
;

CREATE OR REPLACE FUNCTION usage_until_limit()
 RETURNS interval
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN '24:00:00'::interval
;

CREATE UNLOGGED TABLE pending_usage (
  period_end timestamp with time zone DEFAULT usage_period_end() NOT NULL,
  workspace_id uuid NOT NULL,
  source character varying(63) DEFAULT (COALESCE(NULLIF(current_setting('application_name'::text), ''::text), 'unknown'::text))::character varying(63) NOT NULL,
  CONSTRAINT pending_usage_pkey PRIMARY KEY (period_end, workspace_id, source)
) WITH (
  autovacuum_vacuum_threshold=1000,
  autovacuum_vacuum_scale_factor=0.0,
  autovacuum_vacuum_insert_threshold=-1,
  autovacuum_vacuum_cost_delay=0,
  vacuum_truncate=off
);

CREATE TABLE pending_usage_place (
  noted boolean NOT NULL,
  anchor text,
  table_oid oid,
  database_oid oid,
  server_major integer,
  system_identifier text,
  timeline text,
  witness_file oid,
  CONSTRAINT pending_usage_place_pkey PRIMARY KEY (noted)
);

CREATE TABLE pending_usage_reset (
  noticed_at timestamp with time zone NOT NULL,
  flushed_until timestamp with time zone,
  reason text DEFAULT 'unknown'::text NOT NULL,
  CONSTRAINT pending_usage_reset_pkey PRIMARY KEY (noticed_at),
  CONSTRAINT pending_usage_reset_reason CHECK ((reason = ANY (ARRAY['crash'::text, 'promotion'::text, 'restore'::text, 'unknown'::text])))
);

CREATE UNLOGGED TABLE pending_usage_witness (
  present boolean DEFAULT true NOT NULL,
  flushed_at timestamp with time zone,
  counts jsonb,
  unsettled jsonb,
  CONSTRAINT pending_usage_witness_pkey PRIMARY KEY (present),
  CONSTRAINT pending_usage_witness_single CHECK (present)
);

CREATE UNLOGGED TABLE refused_usage (
  workspace_id uuid NOT NULL,
  since timestamp with time zone NOT NULL,
  attempts integer NOT NULL,
  sqlstate text,
  message text NOT NULL,
  next_attempt_at timestamp with time zone NOT NULL,
  CONSTRAINT refused_usage_pkey PRIMARY KEY (workspace_id)
);

CREATE UNLOGGED TABLE set_aside_usage (
  period_end timestamp with time zone DEFAULT usage_period_end() NOT NULL,
  workspace_id uuid NOT NULL,
  source character varying(63) DEFAULT (COALESCE(NULLIF(current_setting('application_name'::text), ''::text), 'unknown'::text))::character varying(63) NOT NULL,
  reason text NOT NULL,
  next_attempt_at timestamp with time zone NOT NULL,
  used_from timestamp with time zone,
  CONSTRAINT set_aside_usage_pkey PRIMARY KEY (period_end, workspace_id, source),
  CONSTRAINT set_aside_usage_reason CHECK ((reason = ANY (ARRAY['held'::text, 'awaited'::text, 'refused'::text, 'until'::text])))
) WITH (
  autovacuum_vacuum_threshold=1000,
  autovacuum_vacuum_scale_factor=0.0,
  autovacuum_vacuum_insert_threshold=-1,
  autovacuum_vacuum_cost_delay=0,
  vacuum_truncate=off
);

CREATE TABLE source_usage (
  source text NOT NULL,
  regular_since timestamp with time zone NOT NULL,
  last_used_at timestamp with time zone NOT NULL,
  counts boolean DEFAULT true NOT NULL,
  CONSTRAINT source_usage_pkey PRIMARY KEY (source)
) WITH (
  fillfactor=50
);

CREATE TABLE stopped_workspaces (
  workspace_id uuid NOT NULL,
  idle_since timestamp with time zone NOT NULL,
  stopped_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
  CONSTRAINT stopped_workspaces_pkey PRIMARY KEY (workspace_id)
);

CREATE TABLE workspace_usage (
  workspace_id uuid NOT NULL,
  source text NOT NULL,
  last_used_at timestamp with time zone NOT NULL,
  CONSTRAINT workspace_usage_pkey PRIMARY KEY (workspace_id, source)
) WITH (
  fillfactor=75
);

CREATE TABLE workspace_usage_day (
  workspace_id uuid NOT NULL,
  source text NOT NULL,
  last_used_at timestamp with time zone NOT NULL,
  day date NOT NULL,
  first_used_at timestamp with time zone NOT NULL,
  slots bit(288) NOT NULL,
  CONSTRAINT workspace_usage_day_pkey PRIMARY KEY (workspace_id, source, day)
) WITH (
  fillfactor=75
);

CREATE TABLE workspaces (
  id uuid DEFAULT gen_random_uuid() NOT NULL,
  last_used_at timestamp with time zone,
  CONSTRAINT workspaces_pkey PRIMARY KEY (id)
) WITH (
  fillfactor=75
);

ALTER TABLE workspace_usage
  ADD CONSTRAINT workspace_usage_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE;

ALTER TABLE workspace_usage_day
  ADD CONSTRAINT workspace_usage_day_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE;

CREATE INDEX refused_usage_next_attempt ON refused_usage USING btree (next_attempt_at);

CREATE INDEX set_aside_usage_awaited ON set_aside_usage USING btree (next_attempt_at) WHERE (reason = 'awaited'::text);

CREATE INDEX set_aside_usage_held ON set_aside_usage USING btree (next_attempt_at) WHERE (reason = 'held'::text);

CREATE INDEX set_aside_usage_refused ON set_aside_usage USING btree (workspace_id) WHERE (reason = 'refused'::text);

CREATE INDEX set_aside_usage_until ON set_aside_usage USING btree (next_attempt_at) WHERE (reason = 'until'::text);

CREATE INDEX set_aside_usage_workspace ON set_aside_usage USING btree (workspace_id, period_end, source);

CREATE INDEX source_usage_ignored ON source_usage USING btree (source) WHERE (NOT counts);

CREATE INDEX workspace_usage_day_day ON workspace_usage_day USING brin (day) WITH (pages_per_range='32', autosummarize='on');

CREATE VIEW pending_usage_period AS
 WITH RECURSIVE noted AS MATERIALIZED (
         SELECT pending_usage_witness.unsettled
           FROM pending_usage_witness
          WHERE ((pg_stat_get_dead_tuples(('pending_usage'::regclass)::oid) >= 50000) AND ((pending_usage_witness.unsettled ->> 'server'::text) = (EXTRACT(epoch FROM pg_postmaster_start_time()))::text) AND (((pending_usage_witness.unsettled ->> 'at'::text))::timestamp with time zone <= statement_timestamp()))
        ), stored_late AS (
         SELECT min(COALESCE(t.after, '-infinity'::timestamp with time zone)) AS after
           FROM (noted
             CROSS JOIN LATERAL jsonb_to_recordset((noted.unsettled -> 'open'::text)) t(transaction text, after timestamp with time zone))
          WHERE (NOT (EXISTS ( SELECT
                   FROM pg_locks l
                  WHERE ((l.virtualtransaction = t.transaction) AND (l.mode = 'RowExclusiveLock'::text) AND (l.relation = ('pending_usage'::regclass)::oid)))))
        ), unsettled_range(from_end, from_id, from_source, until_end) AS (
         SELECT '-infinity'::timestamp with time zone AS timestamptz,
            '00000000-0000-0000-0000-000000000000'::uuid AS uuid,
            ''::text AS text,
            'infinity'::timestamp with time zone AS timestamptz
          WHERE (NOT (EXISTS ( SELECT
                   FROM noted)))
        UNION ALL
         SELECT ((r."from" ->> 0))::timestamp with time zone AS timestamptz,
            ((r."from" ->> 1))::uuid AS uuid,
            (r."from" ->> 2),
            COALESCE(((r.until ->> 0))::timestamp with time zone, 'infinity'::timestamp with time zone) AS "coalesce"
           FROM (noted
             CROSS JOIN LATERAL jsonb_to_recordset((noted.unsettled -> 'ranges'::text)) r("from" jsonb, until jsonb))
        UNION ALL
         SELECT stored_late.after,
            '00000000-0000-0000-0000-000000000000'::uuid AS uuid,
            ''::text AS text,
            'infinity'::timestamp with time zone AS timestamptz
           FROM stored_late
          WHERE (stored_late.after IS NOT NULL)
        ), period(period_end, until_end) AS (
         SELECT first.period_end,
            r.until_end
           FROM (unsettled_range r
             CROSS JOIN LATERAL ( SELECT u.period_end
                   FROM ONLY pending_usage u
                  WHERE ((ROW(u.period_end, u.workspace_id, (u.source)::text) >= ROW(r.from_end, r.from_id, r.from_source)) AND (u.period_end <= r.until_end))
                  ORDER BY u.period_end, u.workspace_id, u.source
                 LIMIT 1) first)
        UNION ALL
         SELECT next.period_end,
            period_1.until_end
           FROM (period period_1
             CROSS JOIN LATERAL ( SELECT u.period_end
                   FROM ONLY pending_usage u
                  WHERE ((u.period_end > period_1.period_end) AND (u.period_end <= period_1.until_end))
                  ORDER BY u.period_end
                 LIMIT 1) next)
        )
 SELECT period_end
   FROM period;

CREATE VIEW workspace_activity AS
 SELECT no_hidden_usage.workspace_id,
    no_hidden_usage.last_used_at,
    no_hidden_usage.source,
    no_hidden_usage.pending,
    NULL::timestamp with time zone AS used_until,
    NULL::timestamp with time zone AS created_at
   FROM no_hidden_usage('workspace_activity'::name, ARRAY['pending_usage'::regclass, 'set_aside_usage'::regclass, 'workspaces'::regclass, 'workspace_usage'::regclass, 'workspace_usage_day'::regclass, 'source_usage'::regclass]) no_hidden_usage(workspace_id, last_used_at, source, pending)
UNION ALL
( WITH ignored AS MATERIALIZED (
         SELECT source_usage.source
           FROM source_usage
          WHERE (NOT source_usage.counts)
        )
 SELECT w.id AS workspace_id,
        CASE
            WHEN live.pending THEN LEAST(p.period_end, statement_timestamp())
            ELSE flushed.last_used_at
        END AS last_used_at,
        CASE
            WHEN live.pending THEN p.source
            ELSE f.source
        END AS source,
    live.pending,
        CASE
            WHEN (p.until AND (p.period_end > statement_timestamp())) THEN p.period_end
            ELSE NULL::timestamp with time zone
        END AS used_until,
    NULL::timestamp with time zone AS created_at
   FROM (((((workspaces w
     LEFT JOIN ( SELECT DISTINCT ON (marks.workspace_id) marks.workspace_id,
            marks.period_end,
            marks.source,
            marks.until
           FROM ( SELECT pending_usage.workspace_id,
                    pending_usage.period_end,
                    ((pending_usage.source)::text COLLATE "default") AS source,
                    NULL::timestamp with time zone AS used_from,
                    false AS until
                   FROM ONLY pending_usage
                  WHERE (pending_usage.period_end = ANY (( SELECT
                                CASE
                                    WHEN (pg_stat_get_dead_tuples(('pending_usage'::regclass)::oid) >= 50000) THEN noted_usage_periods()
                                    ELSE ARRAY( WITH RECURSIVE period(period_end) AS (
 ( SELECT u.period_end
    FROM ONLY pending_usage u
   ORDER BY u.period_end
  LIMIT 1)
 UNION ALL
  SELECT next.period_end
    FROM (period period_1
      CROSS JOIN LATERAL ( SELECT u.period_end
      FROM ONLY pending_usage u
     WHERE (u.period_end > period_1.period_end)
     ORDER BY u.period_end
    LIMIT 1) next)
 )
                                     SELECT period.period_end
                                       FROM period)
                                END AS "array")::timestamp with time zone[]))
                UNION ALL
                 SELECT set_aside_usage.workspace_id,
                    set_aside_usage.period_end,
                    ((set_aside_usage.source)::text COLLATE "default") AS source,
                    set_aside_usage.used_from,
                    (set_aside_usage.reason = 'until'::text)
                   FROM set_aside_usage) marks
          WHERE (marks.source <> ALL (ARRAY( SELECT ignored.source
                   FROM ignored)))
          ORDER BY marks.workspace_id, marks.period_end DESC, marks.source) p ON ((p.workspace_id = w.id)))
     LEFT JOIN ( SELECT used.workspace_id,
            ((bool_or(((NOT used.counts) AND (used.last OR (used.there AND used.ends)))) IS TRUE) AND (bool_or((used.counts AND (used.last OR used.there OR used.later))) IS NOT TRUE)) AS ignored,
            max(used.last_used_at) FILTER (WHERE used.counts) AS last_used_at
           FROM ( SELECT u.workspace_id,
                    (u.source <> ALL (ARRAY( SELECT ignored.source
                           FROM ignored))) AS counts,
                    u.last_used_at,
                    (u.last_used_at = w_1.last_used_at) AS last,
                    (u.last_used_at > w_1.last_used_at) AS later,
                        CASE
                            WHEN ((w_1.last_used_at >= '1970-01-02 00:00:00+00'::timestamp with time zone) AND (w_1.last_used_at < '9999-01-01 00:00:00+00'::timestamp with time zone)) THEN ((u.day = ('1970-01-01'::date + (((ceil((date_part('epoch'::text, w_1.last_used_at) / (300)::double precision)))::integer - 1) / 288))) AND (get_bit(u.slots, (((ceil((date_part('epoch'::text, w_1.last_used_at) / (300)::double precision)))::integer - 1) % 288)) = 1))
                            ELSE NULL::boolean
                        END AS there,
                    ((w_1.last_used_at = date_trunc('second'::text, w_1.last_used_at)) OR ((EXTRACT(epoch FROM w_1.last_used_at) % EXTRACT(epoch FROM usage_period())) = (0)::numeric)) AS ends
                   FROM (workspace_usage_day u
                     JOIN workspaces w_1 ON ((w_1.id = u.workspace_id)))
                  WHERE (EXISTS ( SELECT
                           FROM ignored))
                UNION ALL
                 SELECT u.workspace_id,
                    (u.source <> ALL (ARRAY( SELECT ignored.source
                           FROM ignored))),
                    u.last_used_at,
                    (u.last_used_at = w_1.last_used_at),
                    (u.last_used_at > w_1.last_used_at),
                    false,
                    false
                   FROM (ONLY workspace_usage u
                     JOIN workspaces w_1 ON ((w_1.id = u.workspace_id)))
                  WHERE (EXISTS ( SELECT
                           FROM ignored))) used
          GROUP BY used.workspace_id) counted ON ((counted.workspace_id = w.id)))
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN ((w.last_used_at >= '1970-01-02 00:00:00+00'::timestamp with time zone) AND (w.last_used_at < 'infinity'::timestamp with time zone)) THEN
                    CASE
                        WHEN counted.ignored THEN counted.last_used_at
                        ELSE w.last_used_at
                    END
                    ELSE NULL::timestamp with time zone
                END AS last_used_at) flushed)
     LEFT JOIN ( SELECT workspace_usage.workspace_id,
            workspace_usage.last_used_at,
            min(workspace_usage.source) AS source
           FROM workspace_usage
          WHERE (workspace_usage.source <> ALL (ARRAY( SELECT ignored.source
                   FROM ignored)))
          GROUP BY workspace_usage.workspace_id, workspace_usage.last_used_at) f ON (((f.workspace_id = w.id) AND (f.last_used_at = flushed.last_used_at))))
     CROSS JOIN LATERAL ( SELECT ((p.period_end IS NOT NULL) AND COALESCE((p.period_end > flushed.last_used_at), true)) AS pending) live));

CREATE VIEW workspace_activity_by_source AS
 SELECT no_hidden_usage.workspace_id,
    no_hidden_usage.source,
    no_hidden_usage.last_used_at,
    no_hidden_usage.pending,
    NULL::boolean AS counts,
    NULL::timestamp with time zone AS used_until
   FROM no_hidden_usage('workspace_activity_by_source'::name, ARRAY['pending_usage'::regclass, 'set_aside_usage'::regclass, 'workspaces'::regclass, 'workspace_usage'::regclass, 'workspace_usage_day'::regclass, 'source_usage'::regclass]) no_hidden_usage(workspace_id, last_used_at, source, pending)
UNION ALL
( WITH ignored AS MATERIALIZED (
         SELECT source_usage.source
           FROM source_usage
          WHERE (NOT source_usage.counts)
        )
 SELECT latest.workspace_id,
    latest.source,
        CASE
            WHEN live.pending THEN LEAST(latest.period_end, statement_timestamp())
            ELSE latest.last_used_at
        END AS last_used_at,
    live.pending,
    (latest.source <> ALL (ARRAY( SELECT ignored.source
           FROM ignored))) AS counts,
        CASE
            WHEN (latest.used_until > statement_timestamp()) THEN latest.used_until
            ELSE NULL::timestamp with time zone
        END AS used_until
   FROM (( SELECT used.workspace_id,
            used.source,
            max(used.period_end) AS period_end,
            max(used.last_used_at) AS last_used_at,
            max(used.used_until) AS used_until
           FROM ( SELECT workspace_usage.workspace_id,
                    workspace_usage.source,
                    NULL::timestamp with time zone AS period_end,
                    workspace_usage.last_used_at,
                    NULL::timestamp with time zone AS used_until
                   FROM workspace_usage
                UNION ALL
                 SELECT marks.workspace_id,
                    marks.source,
                    marks.period_end,
                    NULL::timestamp with time zone AS timestamptz,
                        CASE
                            WHEN marks.until THEN marks.period_end
                            ELSE NULL::timestamp with time zone
                        END AS "case"
                   FROM ( SELECT pending_usage.workspace_id,
                            pending_usage.period_end,
                            ((pending_usage.source)::text COLLATE "default") AS source,
                            NULL::timestamp with time zone AS used_from,
                            false AS until
                           FROM ONLY pending_usage
                          WHERE (pending_usage.period_end = ANY (( SELECT
CASE
 WHEN (pg_stat_get_dead_tuples(('pending_usage'::regclass)::oid) >= 50000) THEN noted_usage_periods()
 ELSE ARRAY( WITH RECURSIVE period(period_end) AS (
   ( SELECT u.period_end
      FROM ONLY pending_usage u
     ORDER BY u.period_end
    LIMIT 1)
   UNION ALL
    SELECT next.period_end
      FROM (period period_1
        CROSS JOIN LATERAL ( SELECT u.period_end
        FROM ONLY pending_usage u
       WHERE (u.period_end > period_1.period_end)
       ORDER BY u.period_end
      LIMIT 1) next)
   )
  SELECT period.period_end
    FROM period)
END AS "array")::timestamp with time zone[]))
                        UNION ALL
                         SELECT set_aside_usage.workspace_id,
                            set_aside_usage.period_end,
                            ((set_aside_usage.source)::text COLLATE "default") AS source,
                            set_aside_usage.used_from,
                            (set_aside_usage.reason = 'until'::text)
                           FROM set_aside_usage) marks) used
          GROUP BY used.workspace_id, used.source) latest
     CROSS JOIN LATERAL ( SELECT ((latest.period_end IS NOT NULL) AND COALESCE((latest.period_end > latest.last_used_at), true)) AS pending) live));

CREATE VIEW workspace_usage_daily AS
 SELECT no_hidden_usage.workspace_id,
    NULL::date AS day,
    no_hidden_usage.source,
    NULL::integer AS minutes_used,
    NULL::timestamp with time zone AS first_used_at,
    no_hidden_usage.last_used_at,
    NULL::bit(288) AS slots
   FROM no_hidden_usage('workspace_usage_daily'::name, ARRAY['pending_usage'::regclass, 'set_aside_usage'::regclass, 'workspaces'::regclass, 'workspace_usage'::regclass, 'workspace_usage_day'::regclass, 'source_usage'::regclass]) no_hidden_usage(workspace_id, last_used_at, source, pending)
UNION ALL
 SELECT used.workspace_id,
    used.day,
    used.source,
    ((5 * bit_count(bit_or(used.slots))))::integer AS minutes_used,
    min(used.first_used_at) AS first_used_at,
    max(used.last_used_at) AS last_used_at,
    (bit_or(used.slots))::bit(288) AS slots
   FROM ( SELECT workspace_usage_day.workspace_id,
            workspace_usage_day.day,
            workspace_usage_day.source,
            workspace_usage_day.slots,
            workspace_usage_day.first_used_at,
            workspace_usage_day.last_used_at
           FROM workspace_usage_day
          WHERE (workspace_usage_day.day > '1970-01-01'::date)
        UNION ALL
         SELECT marks.workspace_id,
            days.day,
            marks.source,
            days.slots,
            days.first_used_at,
            days.last_used_at
           FROM ((( SELECT pending_usage.workspace_id,
                    pending_usage.period_end,
                    ((pending_usage.source)::text COLLATE "default") AS source,
                    NULL::timestamp with time zone AS used_from,
                    false AS until
                   FROM ONLY pending_usage
                  WHERE (pending_usage.period_end = ANY (( SELECT
                                CASE
                                    WHEN (pg_stat_get_dead_tuples(('pending_usage'::regclass)::oid) >= 50000) THEN noted_usage_periods()
                                    ELSE ARRAY( WITH RECURSIVE period(period_end) AS (
 ( SELECT u.period_end
    FROM ONLY pending_usage u
   ORDER BY u.period_end
  LIMIT 1)
 UNION ALL
  SELECT next.period_end
    FROM (period period_1
      CROSS JOIN LATERAL ( SELECT u.period_end
      FROM ONLY pending_usage u
     WHERE (u.period_end > period_1.period_end)
     ORDER BY u.period_end
    LIMIT 1) next)
 )
                                     SELECT period.period_end
                                       FROM period)
                                END AS "array")::timestamp with time zone[]))
                UNION ALL
                 SELECT set_aside_usage.workspace_id,
                    set_aside_usage.period_end,
                    ((set_aside_usage.source)::text COLLATE "default") AS source,
                    set_aside_usage.used_from,
                    (set_aside_usage.reason = 'until'::text)
                   FROM set_aside_usage) marks
             CROSS JOIN LATERAL ( SELECT LEAST(COALESCE(marks.used_from, (marks.period_end - usage_period())), statement_timestamp()) AS used_from,
                    LEAST(marks.period_end, statement_timestamp()) AS used_until) mark)
             CROSS JOIN LATERAL ( SELECT ('1970-01-01'::date + number.number) AS day,
                    (((~ (0)::bit(288)) >> GREATEST((LEAST(((ceil((date_part('epoch'::text, mark.used_until) / (300)::double precision)))::integer - 1), (ceil((date_part('epoch'::text, mark.used_from) / (300)::double precision)))::integer) - (number.number * 288)), 0)) & ((~ (0)::bit(288)) << GREATEST((287 - (((ceil((date_part('epoch'::text, mark.used_until) / (300)::double precision)))::integer - 1) - (number.number * 288))), 0))) AS slots,
                    GREATEST(mark.used_from, to_timestamp(((number.number * (86400)::bigint))::double precision)) AS first_used_at,
                    LEAST(mark.used_until, to_timestamp((((number.number + 1) * (86400)::bigint))::double precision)) AS last_used_at
                   FROM generate_series((LEAST(((ceil((date_part('epoch'::text, mark.used_until) / (300)::double precision)))::integer - 1), (ceil((date_part('epoch'::text, mark.used_from) / (300)::double precision)))::integer) / 288), (((ceil((date_part('epoch'::text, mark.used_until) / (300)::double precision)))::integer - 1) / 288)) number(number)) days)
          WHERE ((marks.period_end > '1970-01-02 00:00:00+00'::timestamp with time zone) AND (marks.period_end < 'infinity'::timestamp with time zone))) used
  GROUP BY used.workspace_id, used.source, used.day;

COMMENT ON FUNCTION end_usage_until(uuid,text,boolean) IS 'Ends a use until a time ahead, of one source or of every one; returns how many it ended. For holders.';

COMMENT ON FUNCTION mark_usage_until(uuid,timestamp with time zone,text) IS 'Marks a workspace as in use now and until a time ahead; returns the latest such time of this source. For holders. A pending mark: a crash of the server ends it.';

COMMENT ON FUNCTION no_hidden_usage(name,regclass[]) IS 'No rows. An error if row-level security may hide rows from a view of workspace-usage, which would then be wrong.';

COMMENT ON FUNCTION noted_usage_periods() IS 'The periods of pending_usage_period. The views call it if there are many dead marks.';

COMMENT ON TABLE pending_usage IS 'Marks that are not flushed yet: INSERT (workspace_id[, source]) … ON CONFLICT DO NOTHING, nothing else. UNLOGGED: emptied by a crash of the server.';

COMMENT ON VIEW pending_usage_period IS 'The periods of the marks in pending_usage, without those that are set aside. A period may occur twice.';

COMMENT ON TABLE pending_usage_place IS 'Where the marks were when a flush last looked. It tells a crash, a promotion and a restore apart. The row that is not noted is the anchor: nobody updates it.';

COMMENT ON TABLE pending_usage_reset IS 'When a flush noticed that pending marks were lost, and why. Marks between the two times may be missing. Delete a row if you know that none is.';

COMMENT ON FUNCTION pending_usage_server() IS 'The identity of this server and the timeline of its WAL, as far as it tells them. For pending_usage_place.';

COMMENT ON TABLE pending_usage_witness IS 'One row. Where it is missing, pending_usage was emptied by a crash of the server or the promotion of a standby; the next flush says so and puts it back.';

COMMENT ON COLUMN pending_usage_witness.unsettled IS 'In which ranges of their key there may be marks, as noted by a flush among many dead rows. See pending_usage_period.';

COMMENT ON FUNCTION refuse_usage_until(timestamp with time zone,interval,text) IS 'Part of mark_usage_until(): an error if the time or the source is not allowed, else the present.';

COMMENT ON TABLE refused_usage IS 'Workspaces whose update PostgreSQL refuses, and why. Their marks are set aside. The flush tries them again and removes what succeeds.';

COMMENT ON TABLE set_aside_usage IS 'Marks that a flush could not settle: held, awaited or refused. A child of pending_usage, so they are pending. Written by the flush only.';

COMMENT ON COLUMN set_aside_usage.used_from IS 'Since when the workspace is in use, if it is in use until period_end. Null: for one period.';

COMMENT ON TABLE source_usage IS 'When each source was last flushed, and since when without a gap of more than an hour. Delete a row to forget a source.';

COMMENT ON COLUMN source_usage.counts IS 'Whether its marks keep a workspace alive. Change it with "workspace-usage sources ignore" and "sources count".';

COMMENT ON TABLE stopped_workspaces IS 'Workspaces that a reaper has stopped, and the last use that it stopped them for. It stops one again once it was used after idle_since. Delete a row to have it stopped again.';

COMMENT ON FUNCTION usage_complete_since() IS 'From when on marks are complete: -infinity if none were ever lost. What was used before may look idle.';

COMMENT ON FUNCTION usage_period() IS 'Length of a period. Read or change it with "workspace-usage period"; marks already stored keep their period.';

COMMENT ON FUNCTION usage_period_end() IS 'End of the period that this moment falls in; always in the future. usage_period() is its length.';

COMMENT ON FUNCTION usage_until_limit() IS 'How far ahead a workspace can be in use. Change it with "workspace-usage migrate --until-limit".';

COMMENT ON VIEW workspace_activity IS 'Last use of each workspace, pending use included. source is null if the workspace was never used or it is not known who did.';

COMMENT ON VIEW workspace_activity_by_source IS 'Last use of each workspace by each source, pending use included; also of ids that are marked and not in workspaces.';

COMMENT ON TABLE workspace_usage IS 'When each source last used each workspace, as flushed. Written by the flush only.';

COMMENT ON VIEW workspace_usage_daily IS 'Minutes in which each source used each workspace on a day (UTC), in slots of five minutes, pending use included.';

COMMENT ON TABLE workspace_usage_day IS 'In which five minutes of a day (UTC) each source used each workspace, as flushed. A child of workspace_usage. Written by the flush only.';

COMMENT ON COLUMN workspace_usage_day.slots IS 'Bit n (from 0): used in the five minutes from n * 5 minutes after midnight UTC.';

COMMENT ON TABLE workspaces IS 'Created by workspace-usage.';

COMMENT ON COLUMN workspaces.last_used_at IS 'End of the last period in which the workspace was marked; null: never used. Written by the flush only. Do not index it: that costs the HOT update.';
