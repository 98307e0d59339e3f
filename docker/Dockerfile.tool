# redis-trib alone, linked statically: `docker run redis-trib:tool check HOST`. docker/build.sh builds it.
FROM scratch

# For rediss:// without --cacert.
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY redis-trib LICENSE-MIT LICENSE-APACHE THIRD-PARTY-LICENSES.txt /

USER 65534:65534
ENTRYPOINT ["/redis-trib"]
