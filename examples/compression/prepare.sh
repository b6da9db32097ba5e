# Puts the Go source tree into ~/corpus.tar: a step of the machines' setup. {GOROOT}, where Go is installed, and {TREE}, the parts of
# it to take, are variables: `j var set TREE src`.
set -eu
tar --sort=name --owner=0 --group=0 --mtime=@0 -cf ~/corpus.tar.new -C {GOROOT} {TREE}
mv ~/corpus.tar.new ~/corpus.tar
wc -c < ~/corpus.tar
