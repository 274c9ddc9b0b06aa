-- One row, id 1. `generation` counts the transactions; `store` tells this store from any other, drawn when it is first opened.
CREATE TABLE meta (
    id BIGINT PRIMARY KEY,
    generation BIGINT NOT NULL,
    store TEXT NOT NULL
);
INSERT INTO meta (id, generation, store) VALUES (1, 0, '');

-- One row, id store, once the store was adopted.
CREATE TABLE adoption (
    id TEXT PRIMARY KEY,
    revision BIGINT NOT NULL
);

-- default_group has no foreign key: the group refers to the project already.
CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    revision BIGINT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    default_group TEXT NOT NULL
);

CREATE TABLE groups (
    id TEXT PRIMARY KEY,
    revision BIGINT NOT NULL,
    project TEXT REFERENCES projects (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    on_rule_removal TEXT NOT NULL
);

CREATE TABLE sets (
    id TEXT PRIMARY KEY,
    revision BIGINT NOT NULL,
    project TEXT REFERENCES projects (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    -- A JSON array of prefixes.
    addresses TEXT NOT NULL
);

-- `remote` is any, prefix, group or set, and the column of that name is not null.
CREATE TABLE rules (
    id TEXT PRIMARY KEY,
    revision BIGINT NOT NULL,
    group_id TEXT NOT NULL REFERENCES groups (id),
    direction TEXT NOT NULL,
    ethertype TEXT NOT NULL,
    protocol BIGINT,
    port_first BIGINT,
    port_last BIGINT,
    icmp_type BIGINT,
    icmp_code BIGINT,
    remote TEXT NOT NULL,
    remote_prefix TEXT,
    remote_group TEXT REFERENCES groups (id),
    remote_set TEXT REFERENCES sets (id),
    description TEXT NOT NULL
);
CREATE INDEX rules_group_id ON rules (group_id);
CREATE INDEX rules_remote_group ON rules (remote_group);
CREATE INDEX rules_remote_set ON rules (remote_set);

CREATE TABLE provider_rules (
    id TEXT PRIMARY KEY,
    revision BIGINT NOT NULL,
    position BIGINT NOT NULL,
    action TEXT NOT NULL,
    direction TEXT NOT NULL,
    ethertype TEXT NOT NULL,
    protocol BIGINT,
    port_first BIGINT,
    port_last BIGINT,
    icmp_type BIGINT,
    icmp_code BIGINT,
    remote TEXT NOT NULL,
    remote_prefix TEXT,
    remote_group TEXT REFERENCES groups (id),
    remote_set TEXT REFERENCES sets (id),
    description TEXT NOT NULL
);

-- Either vm and device, or vif. That no two are about the same VIF is checked before: two that change places within a batch
-- are written one after the other.
CREATE TABLE ports (
    id TEXT PRIMARY KEY,
    revision BIGINT NOT NULL,
    project TEXT REFERENCES projects (id),
    vm TEXT,
    device BIGINT,
    vif TEXT,
    -- JSON arrays: addresses; objects of mac (or null) and net.
    addresses TEXT NOT NULL,
    pairs TEXT NOT NULL,
    security TEXT NOT NULL
);

CREATE TABLE port_groups (
    port_id TEXT NOT NULL REFERENCES ports (id),
    group_id TEXT NOT NULL REFERENCES groups (id),
    PRIMARY KEY (port_id, group_id)
);
CREATE INDEX port_groups_group_id ON port_groups (group_id);

CREATE TABLE guarded_networks (
    name TEXT PRIMARY KEY,
    revision BIGINT NOT NULL
);

-- Who did what, when, from where. `writer` is the process that wrote it, `at` milliseconds since 1970, before_value and
-- after_value JSON.
CREATE TABLE audit (
    generation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    origin TEXT NOT NULL,
    writer TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    before_value TEXT,
    after_value TEXT,
    PRIMARY KEY (generation, seq)
);
