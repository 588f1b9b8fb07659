// Version 1 of the schema: the tables of the lease, the registry and the history.

extension Schema {
    /// Another role that owns the schema could change or drop it under every sidecar. A superuser
    /// is a member of every role, so membership proves nothing for a superuser.
    private static let refuseStrangersSchema = """
        DO $$ DECLARE stranger pg_catalog.name; BEGIN
            SELECT o.rolname INTO stranger
                FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_roles AS o ON o.oid = n.nspowner
                WHERE n.nspname = 'sidecar' AND NOT o.rolsuper
                    AND o.rolname NOT IN (current_user, 'pg_database_owner')
                    AND n.nspowner <> (SELECT d.datdba FROM pg_catalog.pg_database AS d
                        WHERE d.datname = pg_catalog.current_database())
                    AND ((SELECT me.rolsuper FROM pg_catalog.pg_roles AS me WHERE me.rolname = current_user)
                        OR NOT pg_catalog.pg_has_role(n.nspowner, 'MEMBER'));
            IF stranger IS NOT NULL THEN
                RAISE EXCEPTION 'the schema "sidecar" already exists and belongs to role "%", which is neither this role ("%") '
                    'nor a role of which it is a member, nor the owner of the database: drop the schema, or ALTER SCHEMA '
                    'sidecar OWNER TO the role that is to own it', stranger, current_user
                    USING ERRCODE = 'object_not_in_prerequisite_state';
            END IF;
        END $$;
        """

    static let version1 = """
        \(refuseStrangersSchema)

        CREATE SCHEMA IF NOT EXISTS sidecar;

        CREATE TABLE sidecar.schema_version (
            version         integer PRIMARY KEY,
            compatible_from integer NOT NULL,
            applied_at      pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now()
        );

        -- One row a lease. Decisions use epoch, beat, holder, ttl_ms, released, suspended, backend_*, server;
        -- everything with a wall clock is for people.
        CREATE TABLE sidecar.lease (
            name           pg_catalog.text PRIMARY KEY,
            epoch          bigint NOT NULL CHECK (epoch BETWEEN 0 AND 9000000000000000),
            beat           bigint NOT NULL CHECK (beat BETWEEN 0 AND 9000000000000000),
            holder         pg_catalog.uuid,
            node           pg_catalog.text,
            version        pg_catalog.text,
            ttl_ms         bigint NOT NULL CHECK (ttl_ms BETWEEN 500 AND 3600000),
            renew_ms       bigint NOT NULL CHECK (renew_ms BETWEEN 20 AND 1800000),
            released       boolean NOT NULL,
            suspended      boolean NOT NULL DEFAULT false,
            backend_pid    integer,
            backend_start  pg_catalog.timestamptz,
            server         pg_catalog.timestamptz NOT NULL CHECK (pg_catalog.isfinite(server)),
            request        pg_catalog.text,
            request_epoch  bigint,
            request_target pg_catalog.text,
            requested_by   pg_catalog.text,
            requested_at   pg_catalog.timestamptz,
            claimed_at     pg_catalog.timestamptz,
            renewed_at     pg_catalog.timestamptz NOT NULL CHECK (pg_catalog.isfinite(renewed_at))
        ) WITH (fillfactor = 50);

        CREATE TABLE sidecar.member (
            lease       pg_catalog.text NOT NULL,
            instance    pg_catalog.uuid NOT NULL,
            node        pg_catalog.text NOT NULL,
            version     pg_catalog.text NOT NULL,
            priority    integer NOT NULL DEFAULT 0,
            leads       boolean NOT NULL,
            healthy     boolean NOT NULL,
            ttl_ms      bigint NOT NULL,
            backend_pid integer,
            started_at  pg_catalog.timestamptz NOT NULL,
            last_seen   pg_catalog.timestamptz NOT NULL,
            PRIMARY KEY (lease, instance)
        ) WITH (fillfactor = 50);

        CREATE TABLE sidecar.history (
            id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            lease      pg_catalog.text NOT NULL,
            epoch      bigint NOT NULL,
            instance   pg_catalog.uuid NOT NULL,
            node       pg_catalog.text NOT NULL,
            version    pg_catalog.text NOT NULL,
            started_at pg_catalog.timestamptz NOT NULL,
            ended_at   pg_catalog.timestamptz,
            reason     pg_catalog.text
        );
        CREATE INDEX history_lease ON sidecar.history (lease, epoch);
        """
}
