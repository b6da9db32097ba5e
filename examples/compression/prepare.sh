# Puts the Go source tree of this machine into ~/corpus.tar. A step of the machines' setup.
# JOBSERVER_GOROOT is where Go is installed; JOBSERVER_TREE are the parts of it to take.
set -eu
tar --sort=name --owner=0 --group=0 --mtime=@0 -cf "$HOME/corpus.tar.new" -C "$JOBSERVER_GOROOT" $JOBSERVER_TREE
mv ~/corpus.tar.new ~/corpus.tar
wc -c < ~/corpus.tar
