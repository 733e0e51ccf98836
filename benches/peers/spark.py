#!/usr/bin/env python3
"""Waterclock and Spark Structured Streaming over the same files, in 20 micro-batches, on two cores: rows per second, and the ratio.

  spark.py --waterclock target/release/waterclock --events events/ --work DIR [--queries q1,q12] [--rounds 3] [--sink parquet|none]

The events are what `make_events.sql` makes. Both sides read a twentieth of a table's files in each micro-batch, and write a checkpoint
for each, on the same disk. Spark runs in a session that is warm (a run before those that count), with RocksDB as its state
store, changelog checkpoints, and two partitions; the time of Waterclock is that of the whole command, from start to end. Medians.
Both leave windows open that the watermark has not passed at the end.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time

BIDS = "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP, extra VARCHAR"
AUCTIONS = "id BIGINT, item_name VARCHAR, description VARCHAR"
TUMBLE = "tumble(date_time, INTERVAL '10 seconds')"
HOP = "hop(date_time, INTERVAL '2 seconds', INTERVAL '10 seconds')"
SESSION = "session(date_time, INTERVAL '10 seconds')"

# Of each query: its table, the mode of its sink, and its SELECT.
WATERCLOCK = {
    "q0": ("bid", "append", "SELECT auction, bidder, price, date_time, extra FROM bid"),
    "q1": ("bid", "append", "SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid"),
    "q2": ("bid", "append", "SELECT auction, price FROM bid WHERE auction % 123 = 0"),
    "q5": ("bid", "append", f"""SELECT window_start(w) AS start, max(num) AS num FROM (
        SELECT {HOP} AS w, auction, count(*) AS num FROM bid GROUP BY {HOP}, auction) counts GROUP BY w"""),
    "q7": ("bid", "append", f"SELECT window_start({TUMBLE}) AS start, max(price) AS price FROM bid GROUP BY {TUMBLE}"),
    "q11": ("bid", "append", f"SELECT bidder, window_start({SESSION}) AS start, count(*) AS num FROM bid GROUP BY bidder, {SESSION}"),
    "q12": ("bid", "append", f"SELECT bidder, window_start({TUMBLE}) AS start, count(*) AS num FROM bid GROUP BY bidder, {TUMBLE}"),
    "q18": ("bid", "append", f"""SELECT auction, bidder, window_start({TUMBLE}) AS start, first_value(price) AS price,
        first_value(date_time) AS first FROM bid GROUP BY auction, bidder, {TUMBLE}"""),
    "words": ("auction", "update", """SELECT word, count(*) AS num FROM (
        SELECT unnest(string_to_array(description, ' ')) AS word FROM auction) words GROUP BY word"""),
}


def data_files(events, table):
    directory = os.path.join(events, table)
    return [os.path.join(directory, file) for file in os.listdir(directory) if not file.startswith(("_", "."))]


def files_per_batch(events, table):
    return -(-len(data_files(events, table)) // 20)


def spark_query(spark, events, name):
    """The same query in Spark, and its output mode."""
    from pyspark.sql import functions as F

    def table(name, columns):
        files, most = os.path.join(events, name), files_per_batch(events, name)
        return spark.readStream.schema(spark.read.parquet(files).schema).option("maxFilesPerTrigger", most).parquet(files).select(*columns)

    def timed(*columns):
        # Spark's watermarks want times with a zone.
        rows = table("bid", (*columns, "date_time")).withColumn("date_time", F.col("date_time").cast("timestamp"))
        return rows.withWatermark("date_time", "2 seconds")

    start = F.col("w.start").alias("start")
    tumble = F.window("date_time", "10 seconds").alias("w")
    if name == "q0":
        return table("bid", ["auction", "bidder", "price", "date_time", "extra"]), "append"
    if name == "q1":
        price = (F.col("price") * F.lit(0.908)).alias("price")
        return table("bid", ["auction", "bidder", "price", "date_time", "extra"]).select("auction", "bidder", price, "date_time", "extra"), "append"
    if name == "q2":
        return table("bid", ["auction", "price"]).where("auction % 123 = 0"), "append"
    if name == "q5":
        hop = F.window("date_time", "10 seconds", "2 seconds").alias("w")
        counts = timed("auction").groupBy(hop, "auction").agg(F.count("*").alias("num"))
        return counts.groupBy("w").agg(F.max("num").alias("num")).select(start, "num"), "append"
    if name == "q7":
        return timed("price").groupBy(tumble).agg(F.max("price").alias("price")).select(start, "price"), "append"
    if name in ("q11", "q12"):
        window = F.session_window("date_time", "10 seconds").alias("w") if name == "q11" else tumble
        return timed("bidder").groupBy(window, "bidder").agg(F.count("*").alias("num")).select("bidder", start, "num"), "append"
    if name == "q18":
        # Only the window may carry the watermark.
        first = F.expr("timestamp_micros(unix_micros(date_time))").alias("first")
        firsts = timed("auction", "bidder", "price").select("auction", "bidder", "price", first, tumble)
        return firsts.dropDuplicates(["w", "auction", "bidder"]).select("auction", "bidder", start, "price", "first"), "append"
    words = table("auction", ["description"]).select(F.explode(F.split("description", " ")).alias("word"))
    return words.groupBy("word").agg(F.count("*").alias("num")), "update"


def spark_session(work):
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.memory": "6g",
        "spark.local.dir": work,
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.streaming.stateStore.providerClass": "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
        "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    }
    builder = SparkSession.builder.master("local[2]").appName("waterclock-peer")
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def run_spark(session, events, name, sink, place):
    rows, mode = spark_query(session, events, name)
    writer = rows.writeStream.outputMode(mode).option("checkpointLocation", f"{place}/checkpoint").trigger(availableNow=True)
    if sink == "none":
        writer = writer.format("noop")
    elif mode == "append":
        writer = writer.format("parquet").option("path", f"{place}/out")
    else:
        writer = writer.foreachBatch(lambda batch, number: batch.write.parquet(f"{place}/out/{number}"))
    begin = time.monotonic()
    query = writer.start()
    query.awaitTermination()
    return time.monotonic() - begin


def run_waterclock(command, events, name, sink, place):
    table, mode, select = WATERCLOCK[name]
    columns = BIDS if table == "bid" else AUCTIONS
    time_options = ", 'event_time' 'date_time', 'watermark_delay' '2 seconds'" if table == "bid" else ""
    stored = "BLACKHOLE LOCATION 'blackhole://'" if sink == "none" else f"PARQUET LOCATION '{place}/out/'"
    codec = "" if sink == "none" else ", 'compression' 'zstd(3)'"
    job = f"""CREATE UNBOUNDED EXTERNAL TABLE {table} ({columns}) STORED AS PARQUET LOCATION '{os.path.join(events, table)}/'
    OPTIONS ('max_files_per_batch' '{files_per_batch(events, table)}'{time_options});
CREATE EXTERNAL TABLE result STORED AS {stored} OPTIONS ('mode' '{mode}'{codec});
INSERT INTO result {select};
"""
    with open(f"{place}/job.sql", "w", encoding="utf-8") as file:
        file.write(job)
    begin = time.monotonic()
    subprocess.run([command, "run", f"{place}/job.sql", "--checkpoint", f"{place}/checkpoint", "--until-caught-up"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waterclock", required=True, help="the command, of a release build")
    parser.add_argument("--events", required=True, help="the directory that make_events.sql has filled")
    parser.add_argument("--work", required=True, help="a directory for output and checkpoints")
    parser.add_argument("--queries", default=",".join(WATERCLOCK))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sink", choices=["parquet", "none"], default="none")
    arguments = parser.parse_args()
    events, work = os.path.abspath(arguments.events), os.path.abspath(arguments.work)
    unknown = [name for name in arguments.queries.split(",") if name not in WATERCLOCK]
    if unknown:
        sys.exit(f"no query {', '.join(unknown)}; there are {', '.join(WATERCLOCK)}")

    import pyarrow.parquet as parquet

    def rows(table):
        return sum(parquet.read_metadata(file).num_rows for file in data_files(events, table))

    def place():
        path = os.path.join(work, "place")
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        return path

    session = spark_session(work)
    print(f"{'query':<8}{'rows':>12}{'waterclock/s':>16}{'spark/s':>14}{'ratio':>8}")
    for name in arguments.queries.split(","):
        ours = [run_waterclock(arguments.waterclock, events, name, arguments.sink, place()) for _ in range(arguments.rounds)]
        theirs = [run_spark(session, events, name, arguments.sink, place()) for _ in range(arguments.rounds + 1)][1:]
        count, ours, theirs = rows(WATERCLOCK[name][0]), statistics.median(ours), statistics.median(theirs)
        print(f"{name:<8}{count:>12}{count / ours:>16.0f}{count / theirs:>14.0f}{theirs / ours:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
