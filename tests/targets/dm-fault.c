// SPDX-License-Identifier: GPL-2.0-only
/*
 * dm-fault: a device-mapper target that fails as real disks do: in places, for one kind of operation, and
 * with the status that says why. The kernel's own (error, flakey, dust) say EIO only, whatever they play.
 *
 *	dmsetup create NAME --table "0 SECTORS fault DEVICE START"
 *	dmsetup message NAME 0 fail STATUS OPERATION FIRST SECTORS
 *	dmsetup message NAME 0 mend
 *
 * STATUS is medium, protection, io, path, timeout, offline, or target; OPERATION is read, write, flush or
 * all. FIRST and SECTORS say which sectors of NAME fail; a flush has none and fails whatever they are.
 * Anything that touches a sector which fails does so as a whole, and nothing of it is done. Each message adds
 * to those before it, and the first that fits counts; after "mend" nothing fails, and all data are what they
 * were. A write that covers all sectors of which reads fail as medium, protection or io mends these, as on
 * disks.
 */

#include <linux/device-mapper.h>
#include <linux/bio.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#define DM_MSG_PREFIX "fault"

#define MOST 32

enum what {
	READS = 1,
	WRITES = 2,
	FLUSHES = 4,
};

struct rule {
	blk_status_t status;
	unsigned int what;
	sector_t first;
	sector_t sectors;
};

struct fault {
	struct dm_dev *dev;
	sector_t start;
	spinlock_t lock;
	unsigned int count;
	struct rule rules[MOST];
};

static const struct {
	const char *name;
	blk_status_t status;
} statuses[] = {
	{ "medium", BLK_STS_MEDIUM },
	{ "protection", BLK_STS_PROTECTION },
	{ "io", BLK_STS_IOERR },
	{ "path", BLK_STS_TRANSPORT },
	{ "timeout", BLK_STS_TIMEOUT },
	{ "offline", BLK_STS_OFFLINE },
	{ "target", BLK_STS_TARGET },
};

static const struct {
	const char *name;
	unsigned int what;
} operations[] = {
	{ "read", READS },
	{ "write", WRITES },
	{ "flush", FLUSHES },
	{ "all", READS | WRITES | FLUSHES },
};

static blk_status_t fault_status(struct fault *f, struct bio *bio, sector_t sector)
{
	bool flush = !bio_sectors(bio);
	unsigned int what = flush ? FLUSHES : bio_data_dir(bio) == READ ? READS : WRITES;
	blk_status_t status = BLK_STS_OK;
	unsigned long flags;

	spin_lock_irqsave(&f->lock, flags);
	for (unsigned int i = 0; i < f->count; i++) {
		const struct rule *r = &f->rules[i];
		bool hit = flush || (sector < r->first + r->sectors && r->first < sector + bio_sectors(bio));

		if ((r->what & what) && hit) {
			status = r->status;
			break;
		}
	}
	for (unsigned int i = 0; what == WRITES && status == BLK_STS_OK && i < f->count;) {
		const struct rule *r = &f->rules[i];
		bool of_disk = r->status == BLK_STS_MEDIUM || r->status == BLK_STS_PROTECTION ||
			       r->status == BLK_STS_IOERR;

		if (r->what == READS && of_disk && sector <= r->first &&
		    sector + bio_sectors(bio) >= r->first + r->sectors)
			f->rules[i] = f->rules[--f->count];
		else
			i++;
	}
	spin_unlock_irqrestore(&f->lock, flags);
	return status;
}

static int fault_map(struct dm_target *ti, struct bio *bio)
{
	struct fault *f = ti->private;
	sector_t sector = dm_target_offset(ti, bio->bi_iter.bi_sector);
	blk_status_t status = fault_status(f, bio, sector);

	if (status != BLK_STS_OK) {
		bio->bi_status = status;
		bio_endio(bio);
		return DM_MAPIO_SUBMITTED;
	}
	bio_set_dev(bio, f->dev->bdev);
	bio->bi_iter.bi_sector = f->start + sector;
	return DM_MAPIO_REMAPPED;
}

static int fault_fail(struct fault *f, char **argv)
{
	struct rule r = {};
	unsigned long flags;
	int error = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(statuses); i++)
		if (!strcmp(argv[1], statuses[i].name))
			r.status = statuses[i].status;
	for (unsigned int i = 0; i < ARRAY_SIZE(operations); i++)
		if (!strcmp(argv[2], operations[i].name))
			r.what = operations[i].what;
	if (r.status == BLK_STS_OK || !r.what || kstrtoull(argv[3], 10, &r.first) ||
	    kstrtoull(argv[4], 10, &r.sectors))
		return -EINVAL;
	spin_lock_irqsave(&f->lock, flags);
	if (f->count < MOST)
		f->rules[f->count++] = r;
	else
		error = -ENOSPC;
	spin_unlock_irqrestore(&f->lock, flags);
	return error;
}

static int fault_message(struct dm_target *ti, unsigned int argc, char **argv, char *result, unsigned int len)
{
	struct fault *f = ti->private;
	unsigned long flags;

	if (argc == 5 && !strcmp(argv[0], "fail"))
		return fault_fail(f, argv);
	if (argc != 1 || strcmp(argv[0], "mend"))
		return -EINVAL;
	spin_lock_irqsave(&f->lock, flags);
	f->count = 0;
	spin_unlock_irqrestore(&f->lock, flags);
	return 0;
}

static int fault_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct fault *f;
	u64 start;
	int error;

	if (argc != 2 || kstrtoull(argv[1], 10, &start)) {
		ti->error = "The arguments are a device and its first sector";
		return -EINVAL;
	}
	f = kzalloc(sizeof(*f), GFP_KERNEL);
	if (!f) {
		ti->error = "Not enough memory";
		return -ENOMEM;
	}
	spin_lock_init(&f->lock);
	f->start = start;
	error = dm_get_device(ti, argv[0], dm_table_get_mode(ti->table), &f->dev);
	if (error) {
		ti->error = "The device cannot be opened";
		kfree(f);
		return error;
	}
	ti->num_flush_bios = 1;
	ti->flush_supported = true;
	ti->private = f;
	return 0;
}

static void fault_dtr(struct dm_target *ti)
{
	struct fault *f = ti->private;

	dm_put_device(ti, f->dev);
	kfree(f);
}

static int fault_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct fault *f = ti->private;

	return fn(ti, f->dev, f->start, ti->len, data);
}

static struct target_type fault_target = {
	.name = "fault",
	.version = { 1, 0, 0 },
	.module = THIS_MODULE,
	.ctr = fault_ctr,
	.dtr = fault_dtr,
	.map = fault_map,
	.message = fault_message,
	.iterate_devices = fault_iterate_devices,
};
module_dm(fault);

MODULE_DESCRIPTION("fails as real disks do, for the tests of dm-writeboost");
MODULE_LICENSE("GPL");
