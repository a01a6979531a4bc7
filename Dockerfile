FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci
COPY . .
RUN npm run build

# The pg-boss dashboard, which is a development dependency of the package.
FROM build AS dashboard
ENV NODE_ENV=production
USER node
EXPOSE 3000
CMD ["node", "node_modules/@pg-boss/dashboard/bin/cli.js"]

FROM node:24-slim AS workspace-usage
ENV NODE_ENV=production
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force
COPY --from=build /app/dist dist
USER node
ENTRYPOINT ["node", "dist/src/cli/main.js"]
CMD ["worker"]
