-- A SQLite database held in memory, about 250 MB with 1,050,000 rows: filled, indexed, updated,
-- then verified against closed formulas and by SQLite's own integrity check. Run it as
--
--   sqlite3 -bail :memory: '.parameter set @rows 1050000' '.read sqlite_memory.sql'
--
-- A wrong answer violates the CHECK of table `verdict`; with -bail that ends sqlite3 with exit
-- code 1. Everything is a function of the row number, so the output never changes.
PRAGMA cache_size = -1000000;  -- never let the page cache spill: all of it shall be our memory
-- The parameter lives in a temporary table, which changing temp_store drops: keep it in ours.
CREATE TABLE size AS SELECT CAST(@rows AS INTEGER) AS rows;
PRAGMA temp_store = MEMORY;

CREATE TABLE item(id INTEGER PRIMARY KEY, key INTEGER, amount INTEGER, name TEXT);
CREATE TABLE verdict(what TEXT, ok INTEGER NOT NULL CHECK(ok = 1));

WITH RECURSIVE counter(n) AS
  (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < (SELECT rows FROM size))
INSERT INTO item
SELECT n, (n * 2654435761) % 4294967296, n % 1000,
       printf('item-%08d-%012x-and-some-more-text-to-store', n, (n * 40503) % 281474976710656)
FROM counter;

CREATE INDEX item_by_key ON item(key);
CREATE INDEX item_by_name ON item(name);
UPDATE item SET amount = amount + 1 WHERE id % 3 = 0;

INSERT INTO verdict SELECT 'count', count(*) = (SELECT rows FROM size) FROM item;
INSERT INTO verdict SELECT 'sum of ids', sum(id) = (SELECT rows * (rows + 1) / 2 FROM size)
  FROM item;
INSERT INTO verdict SELECT 'keys', count(*) = (SELECT rows FROM size) FROM item
  WHERE key = (id * 2654435761) % 4294967296;
INSERT INTO verdict SELECT 'names', count(*) = (SELECT rows FROM size) FROM item WHERE name =
  printf('item-%08d-%012x-and-some-more-text-to-store', id, (id * 40503) % 281474976710656);
INSERT INTO verdict SELECT 'amounts', count(*) = (SELECT rows FROM size) FROM item
  WHERE amount = id % 1000 + (id % 3 = 0);
-- Every 97th row found again through the index on its key.
INSERT INTO verdict SELECT 'index look-ups', count(*) = (SELECT rows FROM size) / 97 FROM item AS a
  JOIN item AS b INDEXED BY item_by_key ON b.key = (a.id * 2654435761) % 4294967296 AND b.id = a.id
  WHERE a.id % 97 = 0;

PRAGMA integrity_check;
SELECT what || ': ok' FROM verdict ORDER BY rowid;
