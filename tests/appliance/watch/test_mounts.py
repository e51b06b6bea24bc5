from appliance.watch.path_rules import locate, mount_of, read_mounts

TEXT = r"""
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:50 / /mnt/nas rw,relatime shared:1 - nfs4 nas:/export/video rw,vers=4.2
41 27 0:51 / /mnt/my\040share rw - cifs //server/my\040share rw
42 27 0:52 / /mnt/ssh rw - fuse.sshfs user@host:/ rw
43 27 254:0 /srv/in/sub /mnt/bound rw - ext4 /dev/vda rw
44 27 0:53 / /mnt/pc rw - 9p drive rw
45 27 0:54 / /tmp rw - tmpfs tmpfs rw
a broken line
"""


def kind(path: str) -> tuple[str, bool]:
    mount = mount_of(path, read_mounts(TEXT))
    return mount.kind, mount.is_network


def test_network_file_systems_are_distinguished_from_local_ones():
    assert kind("/mnt/nas/tapes/1") == ("nfs4", True)
    assert kind("/mnt/my share/x") == ("cifs", True)
    assert kind("/mnt/ssh") == ("fuse.sshfs", True)
    assert kind("/mnt/pc/x") == ("9p", True)
    assert kind("/tmp/x") == ("tmpfs", False)
    assert kind("/mnt/nasty") == ("ext4", False)


def test_a_later_mount_at_the_same_place_counts():
    mounts = read_mounts(TEXT + "50 40 0:60 / /mnt/nas rw - ext4 /dev/vdb rw\n")

    assert mount_of("/mnt/nas/x", mounts).kind == "ext4"


def test_a_bind_mount_is_the_same_place_as_what_it_shows():
    mounts = read_mounts(TEXT)

    assert locate("/mnt/bound/deep", mounts) == ("254:0", "/srv/in/sub/deep")
    assert locate("/srv/in/sub/deep", mounts) == ("254:0", "/srv/in/sub/deep")
    assert locate("/mnt/bound", mounts) == ("254:0", "/srv/in/sub")
